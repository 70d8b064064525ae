//! The control thread: requests of gateways over the control socket.

use std::os::fd::AsFd as _;
use std::time::Duration;

use qlink_io::clock;
use qlink_io::handover::Sleeper;
use qlink_io::seqpacket::{SeqConn, SeqListener};
use qlink_io::wait::wait;
use qlink_pfcp::{Answer, Cause, MAX_MESSAGE_BYTES, Refusal, decode_request, encode_answer};

use crate::control::{Control, Reply};
use crate::n4::N4;
use crate::process::{DataplaneError, IDLE};
use crate::verifier::{Asker, Verified, Verifier};

/// Most control connections at once.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// Descriptors in front of the connections': listener, workers' bell, PFCP endpoint.
const FIXED: usize = 3;

/// A control connection.
struct Connection {
    /// Never given twice.
    number: u64,
    socket: SeqConn,
    waits: Waits,
}

/// Whether a connection waits for an answer; what it asks meanwhile is read when it has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    No,
    ForAnswer,
}

/// Answers requests until told to stop.
pub(crate) fn serve(
    listener: &SeqListener,
    sleeper: &Sleeper,
    control: &mut Control,
    verifier: &Verifier,
    stopped: &dyn Fn() -> bool,
) -> Result<(), DataplaneError> {
    let mut connections: Vec<Connection> = Vec::new();
    let mut numbers = 0_u64;
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    while !stopped() {
        let now_ns = clock::now_ns();
        control.metrics.standing.turned(now_ns);
        control.turn_n4(now_ns);
        control.turn_paths(now_ns);
        while let Some(verified) = verifier.verified() {
            answer_verified(&mut connections, control, verified);
        }
        let ready = {
            let mut descriptors = vec![listener.as_fd(), sleeper.as_fd()];
            // Where there is no PFCP endpoint its place is the listener's a second time.
            descriptors.push(
                control
                    .n4
                    .as_deref()
                    .map_or_else(|| listener.as_fd(), |n4| n4.as_fd()),
            );
            descriptors.extend(listened(&connections).map(|of| of.socket.as_fd()));
            sleeper.prepare();
            let idle = control.n4.as_deref().is_none_or(N4::is_idle) && verifier.is_idle();
            let ready = wait(
                &descriptors,
                Some(if idle { pause(control) } else { Duration::ZERO }),
            )?;
            sleeper.awake();
            ready
        };
        let mut number = FIXED.saturating_sub(1);
        connections.retain_mut(|connection| {
            if connection.waits == Waits::ForAnswer {
                return true;
            }
            number = number.saturating_add(1);
            !ready.is_ready(number) || exchange(connection, control, verifier, &mut buffer)
        });
        if ready.is_ready(0)
            && connections.len() < CONNECTIONS_MAX
            && let Some(socket) = listener.accept(Some(Duration::ZERO))?
        {
            numbers = numbers.saturating_add(1);
            connections.push(Connection {
                number: numbers,
                socket,
                waits: Waits::No,
            });
        }
    }
    Ok(())
}

/// Connections whose next message is read.
fn listened(connections: &[Connection]) -> impl Iterator<Item = &Connection> {
    let listened = |of: &&Connection| of.waits == Waits::No;
    connections.iter().filter(listened)
}

/// Binds a content whose file was read, and tells who asked, if he is still there.
fn answer_verified(connections: &mut Vec<Connection>, control: &mut Control, verified: Verified) {
    let Verified {
        asker,
        binding,
        copy,
    } = verified;
    let answer = control.read(binding, copy);
    connections.retain_mut(|connection| {
        if connection.number != asker.connection {
            return true;
        }
        connection.waits = Waits::No;
        send(&connection.socket, asker.sequence, &answer)
    });
}

/// How long nothing has to be done.
fn pause(control: &Control) -> Duration {
    let due = control.n4.as_deref().and_then(N4::next_deadline);
    let now = Duration::from_nanos(clock::now_ns());
    due.map_or(IDLE, |due| due.saturating_sub(now).min(IDLE))
}

/// Reads one message and answers it, at once or later; `false` when the connection is over.
fn exchange(
    connection: &mut Connection,
    control: &mut Control,
    verifier: &Verifier,
    buffer: &mut [u8],
) -> bool {
    let length = match connection.socket.recv(buffer, Some(Duration::ZERO)) {
        Ok(Some(length)) => length,
        Ok(None) => return true,
        Err(_) => return false,
    };
    let message = buffer.get(..length).unwrap_or_default();
    let (sequence, answer) = match decode_request(message) {
        Ok((sequence, request)) => match control.take(request, clock::now_ns()) {
            Reply::Ready(answer) => (sequence, answer),
            Reply::Read(binding) => {
                let asker = Asker {
                    connection: connection.number,
                    sequence,
                };
                if verifier.ask(asker, binding) {
                    connection.waits = Waits::ForAnswer;
                    return true;
                }
                let refusal = Refusal::new(Cause::Busy, "too many files wait to be read");
                (sequence, Answer::Refused { refusal })
            }
        },
        Err(error) => {
            let refusal = Refusal::new(Cause::Malformed, &error.to_string());
            (sequence_of(message), Answer::Refused { refusal })
        }
    };
    send(&connection.socket, sequence, &answer)
}

/// `false` when the connection is over.
fn send(socket: &SeqConn, sequence: u32, answer: &Answer) -> bool {
    match encode_answer(sequence, answer) {
        Ok(bytes) => socket.send(&bytes).is_ok(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            false
        }
    }
}

/// Sequence number of a message that is otherwise not understood; 0 when it is too short.
fn sequence_of(message: &[u8]) -> u32 {
    let number = message.get(2..6).and_then(|bytes| bytes.first_chunk::<4>());
    number.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
