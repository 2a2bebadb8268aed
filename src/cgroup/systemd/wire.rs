//! D-Bus messages: the few types that the driver sends and reads, in the byte order of this machine.
//!
//! Pure: bytes in, bytes out (D-Bus Specification, "Message Protocol"). What arrives is another
//! process's word: every length is checked.

use super::property::{Property, Value};

/// The first byte of a message says its byte order; all peers are on this machine.
const ENDIAN: u8 = if cfg!(target_endian = "big") { b'B' } else { b'l' };
/// The fixed part of the header: four bytes, body length, serial, and the length of the fields.
pub const FIXED: usize = 16;
/// The longest message of the protocol.
const LONGEST: usize = 1 << 27;

/// A sequence of values: what a message's body or its header fields hold.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `u`; `i` has the same form.
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_ne_bytes());
    }

    /// `b`
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// `s`; `o` has the same form.
    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// `g`
    fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// `a`: its length counts neither itself nor the padding before the first element.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Body)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// `a(sv)`: what StartTransientUnit and SetUnitProperties take.
    pub fn properties<'p>(&mut self, properties: impl Iterator<Item = &'p Property>) {
        self.array(8, |body| {
            for property in properties {
                body.align(8);
                body.text(&property.name);
                body.variant(&property.value);
            }
        });
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Bool(on) => {
                self.signature("b");
                self.bool(*on);
            }
            Value::I32(number) => {
                self.signature("i");
                self.u32(number.cast_unsigned());
            }
            Value::U32(number) => {
                self.signature("u");
                self.u32(*number);
            }
            Value::U64(number) => {
                self.signature("t");
                self.u64(*number);
            }
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Texts(texts) => {
                self.signature("as");
                self.array(4, |body| texts.iter().for_each(|text| body.text(text)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |body| body.bytes.extend(bytes));
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |body| numbers.iter().for_each(|number| body.u32(*number)));
            }
        }
    }
}

/// Where a method is: `Address("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")`.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    pub destination: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
}

/// A method call; `serial` is not 0.
#[must_use]
pub fn method_call(to: Address, member: &str, signature: &str, body: &Body, serial: u32) -> Vec<u8> {
    let mut message = Body::default();
    // Method call, no flags, protocol version 1.
    message.bytes.extend([ENDIAN, 1, 0, 1]);
    message.u32(body.bytes.len() as u32);
    message.u32(serial);
    message.array(8, |fields| {
        let mut field = |code: u8, kind: &str, value: &str| {
            fields.align(8);
            fields.bytes.push(code);
            fields.signature(kind);
            if kind == "g" { fields.signature(value) } else { fields.text(value) }
        };
        field(1, "o", to.path);
        field(2, "s", to.interface);
        field(3, "s", member);
        field(6, "s", to.destination);
        if !signature.is_empty() {
            field(8, "g", signature);
        }
    });
    message.align(8);
    message.bytes.extend(&body.bytes);
    message.bytes
}

/// What kind of message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Return,
    Error,
    Signal,
    /// A call to us, or a kind that is not known: to be ignored.
    Other,
}

/// A message that came.
#[derive(Debug)]
pub struct Message {
    pub kind: Kind,
    /// The serial of the call that this answers; 0 for none.
    pub reply_to: u32,
    pub member: String,
    pub error_name: String,
    body: Vec<u8>,
}

/// How long the message is that `head`, at least [`FIXED`] bytes, begins; `None` if it is none.
#[must_use]
pub fn length(head: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes: head, at: 4 };
    let body = reader.u32()? as usize;
    reader.u32()?;
    let fields = reader.u32()? as usize;
    let whole = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (head[0] == ENDIAN && whole <= LONGEST).then_some(whole)
}

/// Reads one whole message.
#[must_use]
pub fn message(bytes: &[u8]) -> Option<Message> {
    let kind = match bytes.get(1)? {
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let mut reader = Reader { bytes, at: 12 };
    let end = FIXED.checked_add(reader.u32()? as usize)?;
    let mut message = Message { kind, reply_to: 0, member: String::new(), error_name: String::new(), body: Vec::new() };
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?.as_str()) {
            (3, "s") => message.member = reader.text()?,
            (4, "s") => message.error_name = reader.text()?,
            (5, "u") => message.reply_to = reader.u32()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return None,
        }
    }
    message.body = bytes.get(end.checked_next_multiple_of(8)?..)?.to_vec();
    Some(message)
}

impl Message {
    /// Reads the body from its beginning.
    #[must_use]
    pub fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Reads values one after another; `None` where the bytes end or make no sense.
#[derive(Debug)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// `u`
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.bytes.get(self.at..self.at.checked_add(4)?)?;
        self.at += 4;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.rest(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.rest(length)
    }

    /// A `v` that holds a string.
    pub fn text_variant(&mut self) -> Option<String> {
        (self.signature()? == "s").then(|| self.text())?
    }

    fn rest(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        // The NUL behind it.
        self.at = end + 1;
        Some(text)
    }
}
