//! Members of JSON objects, numbers and text, without building a tree.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// No JSON object, or one of which readers may think differently: the member stands there twice, or a name
/// is written with an escape. A mask must not let such a message through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Find a member of a JSON object by its name: where its value stands, as it is written, quotes included.
pub fn member<'a>(object: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Unreadable> {
    let mut at = skip_space(object, 0);
    let mut found = None;
    expect(object, at, b'{')?;
    at = skip_space(object, at + 1);
    if object.get(at) == Some(&b'}') {
        return ended(object, at, found);
    }
    loop {
        expect(object, at, b'"')?;
        let behind = skip_string(object, at)?;
        let key = &object[at + 1..behind - 1];
        if key.contains(&b'\\') {
            return Err(Unreadable);
        }
        at = skip_space(object, behind);
        expect(object, at, b':')?;
        at = skip_space(object, at + 1);
        let behind = skip_value(object, at)?;
        if key == name.as_bytes() {
            if found.is_some() {
                return Err(Unreadable);
            }
            found = Some(&object[at..behind]);
        }
        at = skip_space(object, behind);
        match object.get(at) {
            Some(b'}') => return ended(object, at, found),
            Some(b',') => at = skip_space(object, at + 1),
            _ => return Err(Unreadable),
        }
    }
}

/// Where in `whole` the value begins that [`member`] has found in it.
pub fn position(whole: &[u8], value: &[u8]) -> usize {
    value.as_ptr() as usize - whole.as_ptr() as usize
}

/// The text of a JSON string; `None` where the value is none, or is written with an escape.
pub fn string(value: &[u8]) -> Option<&str> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') || inner.contains(&b'"') {
        return None;
    }
    core::str::from_utf8(inner).ok()
}

/// The value of a JSON number.
pub fn number(value: &[u8]) -> Option<f64> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = &digits[whole..];
    let plain = whole > 0 && (whole == 1 || digits[0] != b'0');
    let continued = match rest {
        [] | [b'e' | b'E', ..] => true,
        [b'.', fraction, ..] => fraction.is_ascii_digit(),
        _ => false,
    };
    if plain && continued {
        core::str::from_utf8(value).ok()?.parse().ok()
    } else {
        None
    }
}

/// A number with three decimals, rounded half away from zero; `null` where that has no such form.
pub fn decimal(number: f64) -> String {
    let mut text = String::new();
    let scaled = (if number < 0.0 { -number } else { number }) * 1000.0 + 0.5;
    if scaled < 9007199254740992.0 {
        let thousandths = scaled as u64;
        let sign = if number < 0.0 && thousandths > 0 { "-" } else { "" };
        let _ = write!(text, "{}{}.{:03}", sign, thousandths / 1000, thousandths % 1000);
    } else {
        text.push_str("null");
    }
    text
}

/// A payload with what stands from `start` to `end` replaced.
pub fn spliced(payload: &[u8], start: usize, end: usize, replacement: &[u8]) -> Vec<u8> {
    [&payload[..start], replacement, &payload[end..]].concat()
}

fn expect(text: &[u8], at: usize, byte: u8) -> Result<(), Unreadable> {
    if text.get(at) == Some(&byte) {
        Ok(())
    } else {
        Err(Unreadable)
    }
}

fn ended<'a>(text: &[u8], at: usize, found: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, Unreadable> {
    if skip_space(text, at + 1) == text.len() {
        Ok(found)
    } else {
        Err(Unreadable)
    }
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let space = text[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    at + space.count()
}

/// Behind the string that begins at `at`.
fn skip_string(text: &[u8], at: usize) -> Result<usize, Unreadable> {
    let mut at = at + 1;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(byte) if *byte >= 0x20 => at += 1,
            _ => return Err(Unreadable),
        }
    }
}

/// Behind the value that begins at `at`.
fn skip_value(text: &[u8], start: usize) -> Result<usize, Unreadable> {
    let mut at = start;
    let mut depth = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = skip_string(text, at)?;
                if depth == 0 {
                    return Ok(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            b',' if depth == 0 => break,
            byte if depth == 0 && *byte <= b' ' => break,
            _ => {}
        }
        at += 1;
    }
    if depth == 0 && at > start {
        Ok(at)
    } else {
        Err(Unreadable)
    }
}
