//! The images of the recording.

use std::collections::BTreeSet;

use super::archive;
use super::refusals::refused;
use super::state::State;
use crate::engine::{EngineError, Image};

impl State {
    pub(super) fn add_image(&mut self, image: Image, name: Option<&str>) {
        // A name leads to one image only.
        for (_, names) in &mut self.images {
            names.retain(|taken| Some(taken.as_str()) != name);
        }
        let at = self.images.iter().position(|(known, _)| known.id == image.id).unwrap_or_else(|| {
            self.images.push((image, BTreeSet::new()));
            self.images.len() - 1
        });
        self.images[at].1.extend(name.map(str::to_owned));
    }

    pub(super) fn image(&self, reference: &str) -> Option<Image> {
        let (image, _) =
            self.images.iter().find(|(image, names)| image.id == reference || names.contains(reference))?;
        Some(image.clone())
    }

    pub(super) fn load_image(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let images = archive::images(bytes)
            .map_err(|error| refused("load the image", 400, &format!("invalid archive: {error}")))?;
        for (image, tags) in images {
            self.add_image(image.clone(), None);
            for tag in tags {
                self.add_image(image.clone(), Some(&tag));
            }
        }
        Ok(())
    }

    pub(super) fn remove_image(&mut self, reference: &str) {
        self.images.retain_mut(|(image, names)| {
            let untagged = names.remove(reference);
            image.id != reference && !(untagged && names.is_empty())
        });
    }

    pub(super) fn image_references(&self) -> BTreeSet<String> {
        self.images.iter().flat_map(|(image, names)| names.iter().chain([&image.id])).cloned().collect()
    }
}
