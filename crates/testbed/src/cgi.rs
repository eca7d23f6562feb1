//! A CGI program as an origin's answer (RFC 3875). git's server of smart HTTP is one.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout, Command},
};
use tokio_util::task::AbortOnDropHandle;

use crate::https::{AnswerBody, Content, channel, text};

/// A program that answers requests, one process for each.
#[derive(Clone, Debug)]
pub struct Cgi {
    command: Vec<String>,
    variables: Vec<(String, PathBuf)>,
}

impl Cgi {
    /// `git http-backend` for the repositories in this folder. Everyone may fetch and push: whom to
    /// believe is decided before it is asked.
    pub fn git(repositories: &Path) -> Self {
        let variables = [
            ("GIT_PROJECT_ROOT", repositories),
            ("HOME", repositories),
            ("GIT_HTTP_EXPORT_ALL", Path::new("1")),
            ("GIT_CONFIG_NOSYSTEM", Path::new("1")),
            // Without a user's name nothing may be pushed.
            ("REMOTE_USER", Path::new("testbed")),
        ];
        Self {
            command: vec!["git".to_owned(), "http-backend".to_owned()],
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    /// Runs the program for this request. Content flows both ways as it comes.
    pub async fn answer(&self, request: Request<Content>) -> Response<AnswerBody> {
        let (head, content) = request.into_parts();
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env_clear().envs(meta_variables(&head));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let feeding = AbortOnDropHandle::new(tokio::spawn(feed(content, child.stdin.take().unwrap())));
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let Some(mut answer) = read_head(&mut output).await else {
            return text(StatusCode::BAD_GATEWAY, "the program gave no answer");
        };
        let (send, body) = channel();
        *answer.body_mut() = body;
        tokio::spawn(async move {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let sent = match output.read_buf(&mut piece).await {
                    Ok(0) => break,
                    Ok(_) => send.send(Ok(Bytes::from(piece))).await,
                    Err(error) => send.send(Err(error)).await,
                };
                if sent.is_err() {
                    return;
                }
            }
            let _ = child.wait().await;
            drop(feeding);
        });
        answer
    }
}

/// RFC 3875 section 4.1, as far as programs look.
fn meta_variables(head: &Parts) -> Vec<(String, String)> {
    let field = |name: HeaderName| {
        head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut variables = vec![
        ("GATEWAY_INTERFACE".to_owned(), "CGI/1.1".to_owned()),
        ("SERVER_PROTOCOL".to_owned(), "HTTP/1.1".to_owned()),
        ("REQUEST_METHOD".to_owned(), head.method.to_string()),
        ("PATH_INFO".to_owned(), head.uri.path().to_owned()),
        ("QUERY_STRING".to_owned(), head.uri.query().unwrap_or_default().to_owned()),
    ];
    for (variable, name) in
        [("CONTENT_TYPE", header::CONTENT_TYPE), ("CONTENT_LENGTH", header::CONTENT_LENGTH)]
    {
        variables.extend(field(name).map(|value| (variable.to_owned(), value)));
    }
    for name in head.headers.keys().filter(|name| **name != header::AUTHORIZATION) {
        let variable = format!("HTTP_{}", name.as_str().replace('-', "_").to_uppercase());
        variables.extend(field(name.clone()).map(|value| (variable, value)));
    }
    variables
}

async fn feed(mut content: Content, mut stdin: ChildStdin) {
    while let Some(Ok(frame)) = content.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        if stdin.write_all(&data).await.is_err() {
            return;
        }
    }
}

/// The fields and the status that the program begins with (RFC 3875 section 6).
async fn read_head(output: &mut BufReader<ChildStdout>) -> Option<Response<AnswerBody>> {
    let mut answer = text(StatusCode::OK, "");
    answer.headers_mut().clear();
    loop {
        let mut line = String::new();
        output.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some(answer);
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("status") {
            *answer.status_mut() = value.trim().split(' ').next()?.parse().ok()?;
        } else {
            answer
                .headers_mut()
                .append(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?);
        }
    }
}

/// What is sent at once.
const PIECE: usize = 64 * 1024;
