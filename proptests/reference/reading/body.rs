//! The error body (H8, F9): a JSON object with `error` and `message`.

/// The text of an error body.
pub struct ErrorBody {
    pub error: Option<String>,
    pub message: Option<String>,
}

const MOST_BYTES: usize = 64 * 1024;
const MOST_DEPTH: usize = 64;

/// Reads a body. Returns `None` if it is not an error body: only the status counts then.
pub fn parse(body: &[u8]) -> Option<ErrorBody> {
    if body.len() > MOST_BYTES {
        return None;
    }
    let mut text = Text(std::str::from_utf8(body).ok()?.chars().collect(), 0);
    let value = text.value(1)?;
    text.space();
    if text.1 != text.0.len() {
        return None;
    }
    let Json::Object(members) = value else {
        return None;
    };
    let field = |name: &str| {
        let mut found = members.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (None, _) => Some(None),
            (Some((_, Json::Text(text))), None) => text.clone().map(Some),
            _ => None, // A wrong type, or a duplicate.
        }
    };
    let (error, message) = (field("error")?, field("message")?);
    (error.is_some() || message.is_some()).then_some(ErrorBody { error, message })
}

enum Json {
    Object(Vec<(String, Json)>),
    /// `None` if its escapes are invalid text (a lone surrogate).
    Text(Option<String>),
    Other,
}

struct Text(Vec<char>, usize);

impl Text {
    fn peek(&self) -> Option<char> {
        self.0.get(self.1).copied()
    }

    fn next(&mut self) -> Option<char> {
        self.1 += 1;
        self.0.get(self.1 - 1).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.1 += usize::from(found);
        found
    }

    fn need(&mut self, c: char) -> Option<()> {
        self.take(c).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.1 += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        self.space();
        match self.peek()? {
            '{' | '[' if depth > MOST_DEPTH => None,
            '{' => self.object(depth),
            '[' => self.array(depth),
            '"' => self.string().map(Json::Text),
            'a'..='z' => {
                let mut word = String::new();
                while let Some(c) = self.peek().filter(char::is_ascii_lowercase) {
                    word.push(c);
                    self.1 += 1;
                }
                ["true", "false", "null"].contains(&word.as_str()).then_some(Json::Other)
            }
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.need('{')?;
        let mut members = Vec::new();
        self.space();
        if self.take('}') {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let key = self.string()??; // A name that is invalid text voids the body.
            self.space();
            self.need(':')?;
            members.push((key, self.value(depth + 1)?));
            self.space();
            if self.take('}') {
                return Some(Json::Object(members));
            }
            self.need(',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.need('[')?;
        self.space();
        if self.take(']') {
            return Some(Json::Other);
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            if self.take(']') {
                return Some(Json::Other);
            }
            self.need(',')?;
        }
    }

    fn string(&mut self) -> Option<Option<String>> {
        self.need('"')?;
        let mut units: Vec<u16> = Vec::new();
        loop {
            match self.next()? {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\\' => match self.next()? {
                    c @ ('"' | '\\' | '/') => units.push(c as u16),
                    'b' => units.push(8),
                    'f' => units.push(12),
                    'n' => units.push(10),
                    'r' => units.push(13),
                    't' => units.push(9),
                    'u' => {
                        let mut unit = 0;
                        for _ in 0..4 {
                            unit = unit * 16 + u16::try_from(self.next()?.to_digit(16)?).ok()?;
                        }
                        units.push(unit);
                    }
                    _ => return None,
                },
                c if c < ' ' => return None,
                c => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let digits = |text: &mut Text| {
            let start = text.1;
            while text.peek().is_some_and(|c| c.is_ascii_digit()) {
                text.1 += 1;
            }
            (text.1 > start).then_some(())
        };
        self.take('-');
        if !self.take('0') {
            digits(self)?;
        }
        if self.take('.') {
            digits(self)?;
        }
        if self.take('e') || self.take('E') {
            _ = self.take('+') || self.take('-');
            digits(self)?;
        }
        Some(Json::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<String>, Option<String>)> {
        parse(text.as_bytes()).map(|b| (b.error, b.message))
    }

    #[test]
    fn h8_code_and_message_are_read() {
        assert_eq!(read(r#"{"error":"a","message":"b"}"#), Some((Some("a".into()), Some("b".into()))));
        assert_eq!(
            read(r#" {"x":[1,{"y":-0.5e+3}],"error":"\u00e9\ud83d\ude00\n"} "#),
            Some((Some("é😀\n".into()), None))
        );
        assert_eq!(read(r#"{"error":"a","x":"\ud800"}"#), Some((Some("a".into()), None)));
        assert_eq!(read(r#"{"message":"m","data":{"error":5}}"#), Some((None, Some("m".into()))));
    }

    #[test]
    fn h8_an_invalid_error_body_says_nothing() {
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            r#"["error","a"]"#,
            r#"{"error":1}"#,
            r#"{"error":null,"message":"m"}"#,
            r#"{"error":"a","error":"b"}"#,
            r#"{"error":"a","message":["m"]}"#,
            r#"{"error":"a"} x"#,
            r#"{"error":"a",}"#,
            r#"{"error":"\ud800"}"#,
            r#"{"error":"a","\ud800":1}"#,
            r#"{"error":"a","x":01}"#,
            r#"{"error":"a","x":tru}"#,
            "{\"error\":\"a\nb\"}",
            "\u{feff}{\"error\":\"a\"}",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(parse(b"{\"error\":\"\xff\"}").is_none());
    }

    #[test]
    fn f9_at_most_64_kib_and_depth_64() {
        let padded = |n: usize| format!("{{\"error\":\"a\"{}}}", " ".repeat(n - 13));
        assert!(parse(padded(65_536).as_bytes()).is_some());
        assert!(parse(padded(65_537).as_bytes()).is_none());
        let deep = |n: usize| format!("{{\"error\":\"a\",\"x\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        assert!(parse(deep(64).as_bytes()).is_some());
        assert!(parse(deep(65).as_bytes()).is_none());
    }
}
