//! Programs of subscribers and origins: this test's own program with other arguments, in their
//! namespaces, on their kernels' sockets.
//!
//! | Words | What it does | It prints |
//! |---|---|---|
//! | `origin` | serves HTTP at port 80, echoes UDP at port 7000, swallows it at 7001, until it is killed | `ready` |
//! | `echo FROM TO COUNT SIZE` | sends datagrams one by one, each after the last one's echo | how many came back |
//! | `blast FROM TO COUNT SIZE` | sends datagrams as fast as the kernel takes them | how many it took |
//! | `push FROM TO COUNT SIZE PAUSE_US` | sends datagrams at a pace | how many left |
//! | `flood TO CONNECTIONS BYTES` | fetches as often, all at once | bytes of all bodies |
//! | `drip TO BYTES CHUNK PAUSE_MS` | posts a body slowly over one connection | what the origin got |

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Names, ORIGIN_V4, ORIGIN_V6, WITHIN};

/// The words, to the process.
const WORDS: &str = "QLINK_UPF_AGENT";

/// Where datagrams come back.
const ECHO: u16 = 7000;
/// Echoes that are waited for in vain before no more is sent.
const MISSING_MAX: u64 = 5;
/// Where they do not.
const SINK: u16 = 7001;

/// The program with `arguments`, in a namespace.
pub(super) fn command(names: &Names, place: &str, arguments: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap().to_owned();
    let mut command = names.inside(
        place,
        &[&program, "an_agent_runs", "--exact", "--nocapture"],
    );
    command.env(WORDS, arguments.join(" "));
    // What the test harness says of itself is not printed by the program.
    command.env("NO_COLOR", "1");
    command
}

/// Starts the origin and waits until it serves.
pub(super) fn origin(names: &Names) -> Child {
    let mut command = command(names, "origin", &["origin"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let is_ready = |line: String| line.contains("ready");
    assert!(output.by_ref().lines().map_while(Result::ok).any(is_ready));
    // Stays open: after a minute its test harness says that it still runs, and would end where
    // nobody can read that.
    child.stdout = Some(output.into_inner());
    child
}

/// The process itself; returns at once in every other one.
pub(crate) fn run_agent() {
    let Ok(words) = std::env::var(WORDS) else {
        return;
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let said = match *words {
        ["origin"] => return serve(),
        ["echo", from, to, count, size] => {
            echo(&socket(from, to, ECHO), number(count), number(size))
        }
        ["blast", from, to, count, size] => {
            push(&socket(from, to, SINK), number(count), number(size), 0)
        }
        ["push", from, to, count, size, pause] => push(
            &socket(from, to, SINK),
            number(count),
            number(size),
            number(pause),
        ),
        ["flood", to, connections, bytes] => flood(to, number(connections), number(bytes)),
        ["drip", to, bytes, chunk, pause] => drip(to, number(bytes), number(chunk), number(pause)),
        _ => panic!("{words:?}"),
    };
    // The harness prints around it: the exit keeps its last words away.
    println!("\n@{said}");
    std::process::exit(0);
}

/// What an agent printed.
pub(super) fn said(output: &str) -> &str {
    let line = output.lines().find_map(|line| line.strip_prefix('@'));
    line.unwrap_or_else(|| panic!("it said nothing: {output}"))
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn socket(from: &str, to: &str, port: u16) -> UdpSocket {
    let from: IpAddr = from.parse().unwrap();
    let to: IpAddr = to.parse().unwrap();
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect((to, port)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    socket
}

fn payload(size: u64) -> Vec<u8> {
    vec![0x5a; usize::try_from(size).unwrap()]
}

fn echo(socket: &UdpSocket, count: u64, size: u64) -> u64 {
    let (mut sent, mut received) = (payload(size), vec![0; 65_536]);
    let (mut came_back, mut missing) = (0, 0);
    for number in 0..count {
        let mark = number.to_be_bytes();
        let marked = mark.len().min(sent.len());
        sent[..marked].copy_from_slice(&mark[..marked]);
        let _ = socket.send(&sent);
        // An error that came in is no datagram.
        let length = socket.recv(&mut received);
        if length.is_ok_and(|length| received[..length] == sent) {
            came_back += 1;
        } else {
            missing += 1;
        }
        // Nobody is there.
        if missing == MISSING_MAX {
            break;
        }
    }
    came_back
}

fn push(socket: &UdpSocket, count: u64, size: u64, pause_us: u64) -> u64 {
    let payload = payload(size);
    let mut left = 0;
    for _ in 0..count {
        left += u64::from(socket.send(&payload).is_ok());
        if pause_us > 0 {
            std::thread::sleep(Duration::from_micros(pause_us));
        }
    }
    left
}

fn flood(to: &str, connections: u64, bytes: u64) -> u64 {
    let to: SocketAddr = SocketAddr::new(to.parse().unwrap(), 80);
    let one = move || {
        let mut connection = TcpStream::connect(to).ok()?;
        connection
            .set_read_timeout(Some(Duration::from_secs(30)))
            .ok()?;
        write!(connection, "GET /{bytes} HTTP/1.1\r\nHost: origin\r\n\r\n").ok()?;
        let mut all = Vec::new();
        connection.read_to_end(&mut all).ok()?;
        let head = all.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        Some((all.len() - head) as u64)
    };
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn(one)
                .unwrap()
        })
        .collect();
    let bodies = threads
        .into_iter()
        .filter_map(|thread| thread.join().unwrap());
    bodies.sum()
}

fn drip(to: &str, bytes: u64, chunk: u64, pause_ms: u64) -> u64 {
    let to = SocketAddr::new(to.parse().unwrap(), 80);
    let mut connection = TcpStream::connect(to).unwrap();
    connection.set_read_timeout(Some(WITHIN)).unwrap();
    write!(
        connection,
        "POST / HTTP/1.1\r\nHost: origin\r\nContent-Length: {bytes}\r\n\r\n"
    )
    .unwrap();
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk);
        connection.write_all(&payload(now)).unwrap();
        left -= now;
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    number(answer.rsplit("\r\n\r\n").next().unwrap().trim())
}

fn serve() {
    for address in ORIGIN_V4.into_iter().chain(ORIGIN_V6) {
        let listener = TcpListener::bind((address, 80)).unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let builder = std::thread::Builder::new().stack_size(128 << 10);
                builder.spawn(move || answer(connection)).unwrap();
            }
        });
        let back = UdpSocket::bind((address, ECHO)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            loop {
                if let Ok((length, from)) = back.recv_from(&mut buffer) {
                    let _ = back.send_to(&buffer[..length], from);
                }
            }
        });
        let sink = UdpSocket::bind((address, SINK)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            loop {
                let _ = sink.recv(&mut buffer);
            }
        });
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}

/// Answers one request: `GET /N` with N bytes, `POST` with the count of the bytes that came.
fn answer(connection: TcpStream) -> Option<()> {
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().ok()?;
        }
    }
    let mut connection = connection;
    let head = |bytes: usize| {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n")
    };
    if request.starts_with("POST") || request.starts_with("PUT") {
        let came = std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
        let body = came.to_string();
        write!(connection, "{}{body}", head(body.len())).ok()?;
    } else {
        let path = request.split_whitespace().nth(1)?;
        let bytes: usize = path.trim_start_matches('/').parse().ok()?;
        connection.write_all(head(bytes).as_bytes()).ok()?;
        let chunk = vec![0x2a; 65_536.min(bytes.max(1))];
        let mut left = bytes;
        while left > 0 {
            let now = left.min(chunk.len());
            connection.write_all(&chunk[..now]).ok()?;
            left -= now;
        }
    }
    Some(())
}
