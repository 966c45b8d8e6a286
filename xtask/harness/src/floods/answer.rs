//! Answers over HTTP on a connection that stays open, as their bytes come: nothing is kept of their bodies.

use anyhow::{Context, Result};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One that comes.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// What has come of its head.
    head: Vec<u8>,
    /// Its status, and how many bytes of its body are to come, once its head is there.
    body: Option<(u16, usize)>,
}

impl Answer {
    /// Takes its next bytes; its status when these were the last.
    ///
    /// # Errors
    /// When it does not say how long it is, or is longer than that; or is put off without a time.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Option<u16>> {
        let (status, left) = match self.body {
            Some((status, left)) => (status, left.checked_sub(bytes.len())),
            None => {
                self.head.extend_from_slice(bytes);
                let end = self.head.windows(END_OF_HEAD.len()).position(|bytes| bytes == END_OF_HEAD);
                let Some(end) = end else { return Ok(None) };
                let (status, length) = read(str::from_utf8(&self.head[..end])?)?;
                let left = length.checked_sub(self.head.len() - end - END_OF_HEAD.len());
                self.head.clear();
                (status, left)
            }
        };
        let left = left.context("more than one answer to one question")?;
        self.body = (left > 0).then_some((status, left));
        Ok((left == 0).then_some(status))
    }
}

/// Status and length.
fn read(head: &str) -> Result<(u16, usize)> {
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status in {head}"))?;
    if status == 503 {
        field("retry-after").with_context(|| format!("no Retry-After in {head}"))?;
    }
    let length = field("content-length").with_context(|| format!("no length in {head}"))?;
    Ok((status, length.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_over_with_its_last_byte_however_it_comes() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 3\r\n\r\nabc";
        for at in 0..bytes.len() {
            let mut answer = Answer::default();
            for _ in 0..2 {
                assert_eq!(answer.take(&bytes[..at]).unwrap(), None, "{at}");
                assert_eq!(answer.take(&bytes[at..]).unwrap(), Some(503), "{at}");
            }
        }
        assert!(Answer::default().take(&[&bytes[..], b"d"].concat()).is_err());
        assert!(Answer::default().take(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Answer::default().take(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
