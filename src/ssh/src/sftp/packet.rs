//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SftpError;

/// The type of the server's first packet.
pub(super) const VERSION: u8 = 2;

/// What the end of a list is told as.
pub(super) const END: &str = "end of file";

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenFor {
    Reading,
    /// It is made where it is missing, and emptied where it is not.
    Writing,
}

/// What a server tells about a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) size: Option<u64>,
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
    /// With the bits of the file's type.
    pub(crate) mode: Option<u32>,
    pub(crate) modified: Option<u32>,
}

impl Attributes {
    fn is(&self, kind: u32) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == kind)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.is(0o040_000)
    }

    pub(crate) fn is_link(&self) -> bool {
        self.is(0o120_000)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.is(0o100_000)
    }
}

/// One name in a directory; of a link, the attributes are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) attributes: Attributes,
}

/// What is asked of a server.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Open { path: &'a str, how: OpenFor, mode: u32 },
    Close { handle: &'a [u8] },
    Read { handle: &'a [u8], at: u64, length: u32 },
    Write { handle: &'a [u8], at: u64, content: &'a [u8] },
    SetPathMode { path: &'a str, mode: u32 },
    SetMode { handle: &'a [u8], mode: u32 },
    OpenDirectory { path: &'a str },
    ReadDirectory { handle: &'a [u8] },
    Remove { path: &'a str },
    MakeDirectory { path: &'a str },
    Stat { path: &'a str },
    ReadLink { path: &'a str },
    Link { path: &'a str, leads_to: &'a str },
}

/// The client's first packet.
pub(super) fn hello() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 5, 1, 0, 0, 0, 3])
}

impl Request<'_> {
    pub(super) fn encode(&self, id: u32) -> Bytes {
        let mut packet = Writer(BytesMut::with_capacity(64));
        match *self {
            Request::Open { path, how, mode } => {
                let flags = if how == OpenFor::Reading { 0x01 } else { 0x02 | 0x08 | 0x10 };
                packet.head(3, id).text(path.as_bytes()).number(flags).mode(mode);
            }
            Request::Close { handle } => packet.head(4, id).text(handle).end(),
            Request::Read { handle, at, length } => packet.head(5, id).text(handle).long(at).number(length).end(),
            Request::Write { handle, at, content } => {
                packet.0.reserve(content.len());
                packet.head(6, id).text(handle).long(at).text(content).end();
            }
            Request::SetPathMode { path, mode } => packet.head(9, id).text(path.as_bytes()).mode(mode),
            Request::SetMode { handle, mode } => packet.head(10, id).text(handle).mode(mode),
            Request::OpenDirectory { path } => packet.head(11, id).text(path.as_bytes()).end(),
            Request::ReadDirectory { handle } => packet.head(12, id).text(handle).end(),
            Request::Remove { path } => packet.head(13, id).text(path.as_bytes()).end(),
            Request::MakeDirectory { path } => packet.head(14, id).text(path.as_bytes()).number(0).end(),
            Request::Stat { path } => packet.head(17, id).text(path.as_bytes()).end(),
            Request::ReadLink { path } => packet.head(19, id).text(path.as_bytes()).end(),
            // OpenSSH has always taken the two in this order, against the draft, and everybody follows.
            Request::Link { path, leads_to } => {
                packet.head(20, id).text(leads_to.as_bytes()).text(path.as_bytes()).end();
            }
        }
        packet.finish()
    }
}

struct Writer(BytesMut);

impl Writer {
    fn head(&mut self, kind: u8, id: u32) -> &mut Writer {
        self.0.put_u32(0);
        self.0.put_u8(kind);
        self.number(id)
    }

    fn number(&mut self, number: u32) -> &mut Writer {
        self.0.put_u32(number);
        self
    }

    fn long(&mut self, number: u64) -> &mut Writer {
        self.0.put_u64(number);
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Writer {
        // No path or piece is as long as that.
        self.0.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.put_slice(text);
        self
    }

    fn mode(&mut self, mode: u32) {
        self.number(HAS_MODE).number(mode & 0o7777);
    }

    fn end(&mut self) {}

    fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0.freeze()
    }
}

/// How a request went, as a number of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    End,
    NotFound,
    Other(u32),
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Response {
    Status(Status, String),
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Entry>),
    Attributes(Attributes),
}

impl Response {
    /// A packet without its length; gives the request's number too.
    pub(super) fn decode(packet: Bytes) -> Result<(u32, Response), SftpError> {
        let mut packet = Fields(packet);
        let kind = packet.byte()?;
        let id = packet.number()?;
        let response = match kind {
            101 => {
                let status = match packet.number()? {
                    0 => Status::Ok,
                    1 => Status::End,
                    2 => Status::NotFound,
                    other => Status::Other(other),
                };
                // Old servers send no words.
                Response::Status(status, packet.text().map(|text| lossy(&text)).unwrap_or_default())
            }
            102 => Response::Handle(packet.text()?),
            103 => Response::Data(packet.text()?),
            104 => {
                let mut names = Vec::new();
                for _ in 0..packet.number()? {
                    let name = lossy(&packet.text()?);
                    packet.text()?;
                    names.push(Entry { name, attributes: packet.attributes()? });
                }
                Response::Names(names)
            }
            105 => Response::Attributes(packet.attributes()?),
            _ => return Err(SftpError::Protocol("an answer of an unknown type")),
        };
        Ok((id, response))
    }

    pub(super) fn done(self) -> Result<(), SftpError> {
        match self {
            Response::Status(Status::Ok, _) => Ok(()),
            other => Err(other.error("a status")),
        }
    }

    pub(super) fn handle(self) -> Result<Bytes, SftpError> {
        match self {
            Response::Handle(handle) => Ok(handle),
            other => Err(other.error("a handle")),
        }
    }

    pub(super) fn attributes(self) -> Result<Attributes, SftpError> {
        match self {
            Response::Attributes(attributes) => Ok(attributes),
            other => Err(other.error("attributes")),
        }
    }

    pub(super) fn names(self) -> Result<Vec<Entry>, SftpError> {
        match self {
            Response::Names(names) => Ok(names),
            other => Err(other.error("names")),
        }
    }

    /// An answer that is not what was asked for.
    pub(super) fn error(self, wanted: &'static str) -> SftpError {
        match self {
            Response::Status(Status::NotFound, _) => SftpError::NotFound,
            Response::Status(Status::End, _) => SftpError::Refused(END.to_owned()),
            Response::Status(Status::Other(number), text) if text.is_empty() => {
                SftpError::Refused(format!("status {number}"))
            }
            Response::Status(Status::Other(_), text) => SftpError::Refused(text),
            _ => SftpError::Protocol(wanted),
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Reads what a server sent, which may break off anywhere.
struct Fields(Bytes);

impl Fields {
    fn has(&self, length: usize) -> Result<(), SftpError> {
        if self.0.len() < length { Err(SftpError::Protocol("a packet that breaks off")) } else { Ok(()) }
    }

    fn byte(&mut self) -> Result<u8, SftpError> {
        self.has(1)?;
        Ok(self.0.get_u8())
    }

    fn number(&mut self) -> Result<u32, SftpError> {
        self.has(4)?;
        Ok(self.0.get_u32())
    }

    fn text(&mut self) -> Result<Bytes, SftpError> {
        let length = self.number()? as usize;
        self.has(length)?;
        Ok(self.0.split_to(length))
    }

    fn attributes(&mut self) -> Result<Attributes, SftpError> {
        let flags = self.number()?;
        let mut attributes = Attributes::default();
        if flags & HAS_SIZE != 0 {
            attributes.size = Some(u64::from(self.number()?) << 32 | u64::from(self.number()?));
        }
        if flags & HAS_OWNER != 0 {
            attributes.owner = Some((self.number()?, self.number()?));
        }
        if flags & HAS_MODE != 0 {
            attributes.mode = Some(self.number()?);
        }
        if flags & HAS_TIMES != 0 {
            self.number()?;
            attributes.modified = Some(self.number()?);
        }
        if flags & HAS_MORE != 0 {
            for _ in 0..self.number()? {
                self.text()?;
                self.text()?;
            }
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_the_protocol_says() {
        let packet = Request::Open { path: "/a", how: OpenFor::Writing, mode: 0o640 }.encode(7);
        assert_eq!(&packet[..], b"\0\0\0\x17\x03\0\0\0\x07\0\0\0\x02/a\0\0\0\x1a\0\0\0\x04\0\0\x01\xa0");
        let packet = Request::Write { handle: b"h", at: 1 << 33, content: b"xyz" }.encode(1);
        assert_eq!(&packet[..], b"\0\0\0\x19\x06\0\0\0\x01\0\0\0\x01h\0\0\0\x02\0\0\0\0\0\0\0\x03xyz");
    }

    /// A list of one name with all kinds of attributes.
    fn names() -> Vec<u8> {
        let mut packet = vec![104, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 1, b'-'];
        packet.extend_from_slice(&0x8000_000f_u32.to_be_bytes());
        packet.extend_from_slice(&5_u64.to_be_bytes());
        for number in [1000_u32, 1000, 0o100_644, 10, 20, 1] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        packet.extend_from_slice(&[0, 0, 0, 1, b'k', 0, 0, 0, 1, b'v']);
        packet
    }

    #[test]
    fn answers_are_read_and_cut_ones_are_errors() {
        let (id, response) = Response::decode(Bytes::from(names())).unwrap();
        let attributes =
            Attributes { size: Some(5), owner: Some((1000, 1000)), mode: Some(0o100_644), modified: Some(20) };
        assert_eq!((id, response), (9, Response::Names(vec![Entry { name: "ab".into(), attributes }])));
        for length in 0..names().len() {
            assert!(Response::decode(Bytes::from(names()[..length].to_vec())).is_err(), "{length}");
        }
        // A number of names that no packet holds takes no memory.
        let many = Bytes::from_static(&[104, 0, 0, 0, 9, 255, 255, 255, 255]);
        assert!(Response::decode(many).is_err());
        let status = Response::decode(Bytes::from_static(&[101, 0, 0, 0, 1, 0, 0, 0, 2])).unwrap().1;
        assert!(matches!(status.done(), Err(SftpError::NotFound)));
    }
}
