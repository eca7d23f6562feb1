//! What becomes of a request, decided from its head alone, before anything is connected.

use std::{net::IpAddr, sync::Arc};

use http::{Version, request::Parts, uri::PathAndQuery};

use crate::{
    allow,
    authority::OwnNames,
    framing,
    refusal::{Reason, method_is_proxied},
    route::{Match, Route, Routes},
    target::{CheckedPath, Target},
};

/// The outcome of the decision.
#[derive(Debug)]
pub enum Verdict {
    /// To be sent to the route's upstream with this target.
    Forward(Arc<Route>, PathAndQuery),
    /// To be asked for again at this path: a route's own, with its slash.
    Redirect(String),
    /// A question to the proxy itself: which routes there are.
    ListRoutes,
    /// Nothing to say: `OPTIONS *`.
    NoContent,
    /// Not to be sent: this route's rules do not take it.
    NotAllowed(Arc<Route>),
    /// Not to be sent.
    Refuse(Reason),
}

/// What a decision rests on, beside the request.
#[derive(Debug)]
pub struct Policy {
    /// The routes.
    pub routes: Routes,
    /// Our own names.
    pub own: OwnNames,
    /// The most bytes of a request's content.
    pub max_body: u64,
}

impl Policy {
    /// Decides about a request that came on a connection with this local address.
    pub fn judge(&self, head: &Parts, local: IpAddr) -> Verdict {
        match self.check(head, local) {
            Ok(Target::Asterisk) => Verdict::NoContent,
            Ok(Target::Path(path)) => self.find(head, &path),
            Err(reason) => Verdict::Refuse(reason),
        }
    }

    fn check<'a>(&self, head: &'a Parts, local: IpAddr) -> Result<Target<'a>, Reason> {
        if head.version != Version::HTTP_11 {
            return Err(Reason::Version);
        }
        if !method_is_proxied(&head.method) {
            return Err(Reason::MethodNotAllowed);
        }
        framing::check_request(&head.headers, self.max_body)?;
        let target = Target::check(&head.method, &head.uri)?;
        self.own.check(&head.headers, &head.uri, local)?;
        Ok(target)
    }

    fn find(&self, head: &Parts, path: &CheckedPath<'_>) -> Verdict {
        if path.as_str() == OWN_PATH {
            let asks = matches!(head.method, http::Method::GET | http::Method::HEAD);
            return if asks { Verdict::ListRoutes } else { Verdict::Refuse(Reason::MethodNotAllowed) };
        }
        match self.routes.find(path.as_str()) {
            Match::None => Verdict::Refuse(Reason::NoRoute),
            Match::Bare(route) => Verdict::Redirect(match path.query() {
                Some(query) => format!("{}?{query}", route.path),
                None => route.path.clone(),
            }),
            Match::Route(route) => match path.under(&route.path, &route.base) {
                Ok(_) if !is_allowed(route, head, path) => Verdict::NotAllowed(route.clone()),
                Ok(target) => Verdict::Forward(route.clone(), target),
                Err(reason) => Verdict::Refuse(reason),
            },
        }
    }
}

fn is_allowed(route: &Route, head: &Parts, path: &CheckedPath<'_>) -> bool {
    let Some(rules) = &route.allow else { return true };
    let rest = path.as_str().strip_prefix(&route.path);
    rest.is_some_and(|rest| allow::permits(rules, &head.method, rest))
}

/// The one path that is the proxy's own; a route cannot stand there.
const OWN_PATH: &str = "/-/routes";
