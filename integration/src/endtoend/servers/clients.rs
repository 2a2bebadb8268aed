//! Just enough of three protocols to ask a server something from outside its container.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::case::{Outcome, Stop, fail};

const LIMIT: Duration = Duration::from_secs(5);

fn connect(address: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The body of what `GET path` answers with status 200 (RFC 9112).
pub fn http_get(address: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: xebec.test\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return fail(format!("GET {path}: {status}"));
    }
    Ok(body.to_string())
}

/// One redis command; the reply's first line without its type, or the string it announces.
pub fn redis(address: SocketAddr, words: &[&str]) -> Outcome<String> {
    let mut stream = connect(address)?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(request.as_bytes())?;
    let head = read_line(&mut stream)?;
    match head.split_at_checked(1) {
        Some(("+" | ":", reply)) => Ok(reply.to_string()),
        Some(("$", _)) => read_line(&mut stream),
        _ => fail(format!("redis {words:?}: {head}")),
    }
}

fn read_line(stream: &mut TcpStream) -> Outcome<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8(line)?.trim_end().to_string())
}

/// The values of all rows that a simple query returns, over PostgreSQL's protocol 3.0.
pub fn postgres(address: SocketAddr, query: &str) -> Outcome<Vec<String>> {
    let mut stream = connect(address)?;
    let mut start = 196_608u32.to_be_bytes().to_vec();
    start.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
    send(&mut stream, None, &start)?;
    until_ready(&mut stream)?;
    send(&mut stream, Some(b'Q'), format!("{query}\0").as_bytes())?;
    let values = until_ready(&mut stream)?;
    send(&mut stream, Some(b'X'), b"")?;
    Ok(values)
}

fn send(stream: &mut TcpStream, kind: Option<u8>, body: &[u8]) -> Outcome {
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    Ok(stream.write_all(&message)?)
}

/// Reads messages up to ReadyForQuery, and keeps what DataRow messages carry.
fn until_ready(stream: &mut TcpStream) -> Outcome<Vec<String>> {
    let mut values = Vec::new();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length.saturating_sub(4) as usize];
        stream.read_exact(&mut body)?;
        match head[0] {
            b'Z' => return Ok(values),
            b'E' => {
                let text = String::from_utf8_lossy(&body).replace('\0', " ");
                return fail(format!("postgres: {text}"));
            }
            b'D' => values.extend(columns(&body)?),
            _ => {}
        }
    }
}

/// The columns of one DataRow; NULL has the length -1 and no bytes.
fn columns(body: &[u8]) -> Outcome<Vec<String>> {
    let short = || Stop::Fail("postgres: a DataRow is shorter than it says".into());
    let (count, mut rest) = body.split_at_checked(2).ok_or_else(short)?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
        let (length, after) = rest.split_at_checked(4).ok_or_else(short)?;
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let (value, after) = after.split_at_checked(length.max(0) as usize).ok_or_else(short)?;
        values.push(String::from_utf8_lossy(value).into_owned());
        rest = after;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_is_taken_apart() {
        let row = [0, 3, 0, 0, 0, 2, b'4', b'2', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(super::columns(&row).expect("a whole row"), ["42", "", ""]);
        assert!(super::columns(&row[..6]).is_err());
    }
}
