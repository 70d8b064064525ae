//! Chromium over its DevTools pipe: JSON messages, each ended by a zero byte, on descriptors 3 and
//! 4 of the browser. No driver program and no socket; every wait is bounded.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a call or a condition may take.
const WITHIN: Duration = Duration::from_secs(30);

/// The browser, if it is installed.
pub(crate) fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser"].map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// A headless browser with a profile of its own; it ends when this is dropped.
pub(crate) struct Browser {
    child: Child,
    out: File,
    incoming: Receiver<Value>,
    next: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// Starts `program` with the empty folder `profile`.
    pub(crate) fn start(program: &Path, profile: &Path) -> Self {
        let pipe = |name: &str| {
            let path = profile.join(name);
            let made = Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        // Opened for both directions, a fifo blocks neither side.
        let script = "exec \"$0\" --headless --no-sandbox --disable-gpu --disable-quic \
                      --no-first-run --disable-background-networking --disable-component-update \
                      --disable-sync --hide-scrollbars --force-color-profile=srgb \
                      --remote-debugging-pipe --user-data-dir=\"$3/data\" about:blank \
                      3<>\"$1\" 4<>\"$2\"";
        let child = Command::new("sh")
            .args(["-c", script])
            .args([program, &to, &from, profile])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        Self {
            child,
            out: open(&to),
            incoming: read_messages(open(&from)),
            next: 0,
            complaints: Vec::new(),
        }
    }

    /// Opens a tab of `size` at `address`.
    pub(crate) fn open(&mut self, address: &str, size: (u32, u32)) -> Tab<'_> {
        let target = self.call(None, "Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let mut tab = Tab {
            browser: self,
            session,
        };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, &json!({}));
        }
        tab.size(size);
        tab.go(address);
        tab
    }

    fn call(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.out.write_all(&bytes).unwrap();
        let until = Instant::now() + WITHIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.incoming.recv_timeout(left);
            let answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
            self.note(&answer);
            if answer["id"] == json!(self.next) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Keeps what a page's console would show in red: refused by the policy, or thrown.
    fn note(&mut self, message: &Value) {
        let entry = &message["params"]["entry"];
        let thrown = message["method"] == "Runtime.exceptionThrown";
        // The page that is not found is asked for on purpose.
        let expected = entry["text"]
            .as_str()
            .is_some_and(|text| text.contains("404"));
        if thrown || (entry["level"] == "error" && !expected) {
            self.complaints.push(message["params"].to_string());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = b"{\"id\":0,\"method\":\"Browser.close\"}\0";
        let _gone = self.out.write_all(close);
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn read_messages(mut from: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let (mut buffer, mut waiting) = (vec![0; 1 << 16], Vec::new());
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            waiting.extend_from_slice(&buffer[..length]);
            while let Some(end) = waiting.iter().position(|byte| *byte == 0) {
                let rest = waiting.split_off(end + 1);
                let message = serde_json::from_slice(&waiting[..end]).unwrap();
                waiting = rest;
                if sender.send(message).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// A page.
pub(crate) struct Tab<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl Tab<'_> {
    fn call(&mut self, method: &str, params: &Value) -> Value {
        let session = self.session.clone();
        self.browser.call(Some(&session), method, params)
    }

    /// Loads `address`.
    pub(crate) fn go(&mut self, address: &str) {
        let answer = self.call("Page.navigate", &json!({"url": address}));
        assert!(answer.get("errorText").is_none(), "{address}: {answer}");
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'");
    }

    /// Sets the window's size.
    pub(crate) fn size(&mut self, (width, height): (u32, u32)) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// `light` or `dark`.
    pub(crate) fn scheme(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// The value of a JavaScript expression.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &params);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until `condition` is true.
    pub(crate) fn until(&mut self, condition: &str) {
        let until = Instant::now() + WITHIN;
        while self.evaluate(condition) != json!(true) {
            if Instant::now() > until {
                let text = self.evaluate("document.body.innerText");
                panic!("never true: {condition}\nthe page says: {text}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the window shows, as PNG.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let params = json!({"format": "png"});
        let answer = self.call("Page.captureScreenshot", &params);
        decode_base64(answer["data"].as_str().unwrap())
    }

    /// What the page's console showed in red so far.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.browser.complaints)
    }
}

/// Source: RFC 4648 §4.
fn decode_base64(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for character in text.bytes().filter(|byte| *byte != b'=') {
        let digit = digits.iter().position(|known| *known == character).unwrap();
        held = (held << 6) | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    bytes
}
