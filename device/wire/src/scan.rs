//! A strict scanner for one JSON object (RFC 8259) in a short text. It knows nothing of readings.
//!
//! Nested values are checked by recursion; the caller bounds the text, and with it the depth.

/// The text is not one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadJson;

/// A value of a top-level field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(Number),
    /// The characters between the quotes, escapes left as they stand.
    String(&'a str),
    Bool(bool),
    /// `null`, an array or an object.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// Written as a whole number without a sign.
    Unsigned(u64),
    /// A whole number without a sign, too large for 64 bits.
    Huge,
    /// Written as a whole number with a minus sign.
    Negative,
    /// Has a fraction or an exponent.
    Fractional,
}

pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Reads the whole text as one object and shows each field of it to `field`, in order.
    pub(crate) fn object<E: From<BadJson>>(
        mut self,
        field: impl FnMut(&'a str, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.space();
        self.members(field)?;
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(BadJson.into()) }
    }

    fn members<E: From<BadJson>>(
        &mut self,
        mut field: impl FnMut(&'a str, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{')?;
        self.space();
        if self.accept(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            let value = self.value()?;
            field(name, value)?;
            if !self.accept(b',') {
                return Ok(self.expect(b'}')?);
            }
        }
    }

    fn elements(&mut self) -> Result<(), BadJson> {
        self.expect(b'[')?;
        self.space();
        if self.accept(b']') {
            return Ok(());
        }
        loop {
            self.value()?;
            if !self.accept(b',') {
                return self.expect(b']');
            }
        }
    }

    /// A value with the white space around it.
    fn value(&mut self) -> Result<Value<'a>, BadJson> {
        self.space();
        let value = match self.peek().ok_or(BadJson)? {
            b'"' => Value::String(self.string()?),
            b'{' => self.members(|_, _| Ok::<_, BadJson>(())).map(|()| Value::Other)?,
            b'[' => self.elements().map(|()| Value::Other)?,
            b't' => self.literal("true", Value::Bool(true))?,
            b'f' => self.literal("false", Value::Bool(false))?,
            b'n' => self.literal("null", Value::Other)?,
            _ => Value::Number(self.number()?),
        };
        self.space();
        Ok(value)
    }

    fn literal(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, BadJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(BadJson);
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Number, BadJson> {
        let negative = self.accept(b'-');
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(BadJson);
        }
        let mut fractional = false;
        if self.accept(b'.') {
            self.digits()?;
            fractional = true;
        }
        if self.accept(b'e') || self.accept(b'E') {
            let _sign = self.accept(b'+') || self.accept(b'-');
            self.digits()?;
            fractional = true;
        }
        Ok(match (fractional, negative) {
            (true, _) => Number::Fractional,
            (false, true) => Number::Negative,
            (false, false) => whole.parse().map_or(Number::Huge, Number::Unsigned),
        })
    }

    fn digits(&mut self) -> Result<&'a str, BadJson> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(&self.text[start..self.at]) } else { Err(BadJson) }
    }

    fn string(&mut self) -> Result<&'a str, BadJson> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return Ok(&self.text[start..self.at - 1]),
                b'\\' => self.escape()?,
                0x00..=0x1f => return Err(BadJson),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), BadJson> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    if !self.next()?.is_ascii_hexdigit() {
                        return Err(BadJson);
                    }
                }
                Ok(())
            }
            _ => Err(BadJson),
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, BadJson> {
        let byte = self.peek().ok_or(BadJson)?;
        self.at += 1;
        Ok(byte)
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), BadJson> {
        if self.accept(byte) { Ok(()) } else { Err(BadJson) }
    }
}
