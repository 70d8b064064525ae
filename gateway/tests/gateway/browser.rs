//! The console in headless Chromium: a settled batch changes the equation without a reload.
//!
//! Needs `chromium` (Debian package of that name); without it the test says `skipped: why`, and
//! fails where `CI=true`. With `QLINK_SCREENSHOT=FILE` it also writes what it saw as PNG, with
//! `QLINK_SCREENSHOT_DIR=FOLDER` every page in light, dark and 360 px.

mod devtools;

use std::path::PathBuf;

use qlink_meter::Usage;
use qlink_types::ids::{ContentId, PackageId, SessionId};
use qlink_types::package::{Audience, Scope};
use serde_json::json;

use crate::support::{STATION, World, key, list};
use devtools::{Browser, Tab, chromium};

/// Size of the window: packages and sessions of the story, with the blocks below its edge.
const WIDE: (u32, u32) = (1240, 1475);

/// Width of a small phone.
const NARROW: u32 = 360;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_batch_changes_the_equation_in_the_browser_without_a_reload() {
    let Some(program) = chromium() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "chromium is not installed"
        );
        println!("skipped: chromium is not installed (Debian package chromium)");
        return;
    };
    let story = Story::play().await;
    let world = &story.world;
    let base = format!("http://{}", world.http.address);
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(&program, profile.path());
    let mut tab = browser.open(&format!("{base}/console"), WIDE);
    tab.until("document.getElementById('link')?.textContent === 'live'");
    tab.until(&shows(
        "6 viewers: 60,000,000 bytes used = 0.60000000 QLC moved",
    ));
    // A reload would forget this.
    tab.evaluate("window.mark = 1");
    tab.evaluate("document.querySelector('#sessions-scroll').focus()");

    world.plane.deliver(story.sessions[6], 10_000_000);

    tab.until(&shows(
        "7 viewers: 70,000,000 bytes used = 0.70000000 QLC moved : 1.00000000 QLC × 100,000,000 bytes",
    ));
    assert_eq!(tab.evaluate("window.mark"), json!(1));
    tab.until("document.getElementById('announce').textContent.includes('70,000,000 bytes used')");
    let focus = tab.evaluate("document.activeElement.id");
    assert_eq!(
        focus,
        json!("sessions-scroll"),
        "the update took the focus away"
    );
    assert_eq!(
        tab.evaluate("document.querySelectorAll('progress').length"),
        json!(2)
    );
    tab.evaluate("document.activeElement.blur()");
    shoot(
        &mut tab,
        std::env::var_os("QLINK_SCREENSHOT").map(PathBuf::from),
    );
    story.look_at_every_page(&mut tab, &base);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

/// An expression that is true once the page's text, runs of spaces as one, contains `text`.
fn shows(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!("document.body.textContent.replace(/\\s+/g, ' ').includes({text})")
}

fn shoot(tab: &mut Tab<'_>, file: Option<PathBuf>) {
    if let Some(file) = file {
        std::fs::write(file, tab.screenshot()).unwrap();
    }
}

/// A film of 10 MB, ten viewers' package, six views settled, a seventh viewer about to watch, and
/// one who dressed other traffic as the film.
struct Story {
    world: World,
    package: PackageId,
    sessions: Vec<SessionId>,
    cheater: SessionId,
}

impl Story {
    async fn play() -> Self {
        let world = World::start().await;
        let content = world.film(&vec![7; 10_000_000]).await;
        let terms = world.terms(content, 100_000_000, 100_000_000, 10_000_000);
        let package = world.buy(&terms).await;
        let personal = Self::personal(&world, content).await;
        let mut sessions = Vec::new();
        for n in 0..7 {
            sessions.push(world.open(package, n).await);
        }
        for session in &sessions[..6] {
            world.plane.deliver(*session, 10_000_000);
        }
        let cheater = Self::cheat(&world, package, personal).await;
        world.settled(package, 60_000_000).await;
        world.settled(personal, 3_214_987).await;
        world.close(sessions[0]).await;
        Self {
            world,
            package,
            sessions,
            cheater,
        }
    }

    /// A personal data package of viewer 9.
    async fn personal(world: &World, content: ContentId) -> PackageId {
        let package = world.next_package().await;
        let mut terms = world.terms(content, 50_000_000, 0, 50_000_000);
        terms.scope = Scope::Any;
        terms.audience = Audience::Keys {
            keys: list(vec![world.viewer(package, 9).viewer()]),
        };
        assert_eq!(world.buy(&terms).await, package);
        package
    }

    async fn cheat(world: &World, package: PackageId, personal: PackageId) -> SessionId {
        let mut request = world.open_request(package, 9);
        let signed = world.open_request(personal, 9).acceptance;
        request.personal = signed;
        request.open.personal_package = personal;
        request.signature = request.open.sign(&key(STATION), &world.chain);
        let body = serde_json::to_value(&request).unwrap();
        let answer = world.http.post("/v1/sessions", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let session = answer.json()["session"].as_str().unwrap().parse().unwrap();
        let usage = Usage {
            uplink_bytes: 81_204,
            uplink_packets: 1_530,
            downlink_bytes: 3_391_520,
            downlink_packets: 2_417,
            wire_payload: 3_214_987 + 824,
            user_charged: 3_214_987,
            overhead_allowed: 824,
            personal: 3_214_987,
            ..Usage::default()
        };
        world.plane.set(session, usage);
        session
    }

    /// Every page fits a small phone and is legible in both schemes.
    fn look_at_every_page(&self, tab: &mut Tab<'_>, base: &str) {
        let folder = std::env::var_os("QLINK_SCREENSHOT_DIR").map(PathBuf::from);
        let pages = [
            ("overview", "/console".to_owned()),
            ("package", format!("/console/packages/{}", self.package)),
            ("session", format!("/console/sessions/{}", self.cheater)),
            ("unknown", "/console/sessions/none".to_owned()),
        ];
        for (name, path) in pages {
            tab.go(&format!("{base}{path}"));
            tab.until("document.readyState === 'complete' && !!document.querySelector('h1')");
            for (scheme, width) in [("light", WIDE.0), ("dark", WIDE.0), ("light", NARROW)] {
                tab.size((width, WIDE.1));
                tab.scheme(scheme);
                let overflow = tab.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth",
                );
                assert_eq!(overflow, json!(0), "{name} is wider than {width} px");
                let worst = tab.evaluate(CONTRAST);
                assert_eq!(worst, json!([]), "{name} in {scheme}: too little contrast");
                let file = |folder: &PathBuf| folder.join(format!("{name}-{scheme}-{width}.png"));
                shoot(tab, folder.as_ref().map(file));
            }
        }
    }
}

/// Texts whose colour stands out less than 4.5 : 1 from what is behind them.
///
/// Source: WCAG 2.2, success criterion 1.4.3, "relative luminance".
const CONTRAST: &str = r"(() => {
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const bad = new Set();
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const box = node.parentElement;
    if (!node.textContent.trim() || !box.checkVisibility() || box.closest('.quiet, .skip')) continue;
    const [a, b] = [light(rgb(getComputedStyle(box).color)), light(behind(box))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(node.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return [...bad];
})()";
