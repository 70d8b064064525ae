//! The console as HTML: its figures, its policy, and pages that need no script.

use qlink_types::units::Units;
use serde_json::json;

use crate::support::{PROVIDER, World, until};

/// Text of a page without its marks, runs of spaces as one.
fn words(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for character in html.replace("<wbr>", "").chars() {
        match character {
            '<' => {
                inside = true;
                text.push(' ');
            }
            '>' => inside = false,
            _ if !inside => text.push(character),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn page(world: &World, path: &str) -> String {
    let answer = world.http.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    answer.text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_views_show_seventy_million_bytes_and_seven_tenths_of_a_qlc() {
    let world = World::start().await;
    let content = world.film(&vec![7; 10_000_000]).await;
    let package = world
        .buy(&world.terms(content, 100_000_000, 100_000_000, 10_000_000))
        .await;
    for n in 0..7 {
        let session = world.open(package, n).await;
        world.plane.deliver(session, 10_000_000);
    }
    world.settled(package, 70_000_000).await;

    let text = words(&page(&world, "/console").await);

    let equation = "7 viewers: 70,000,000 bytes used = 0.70000000 QLC moved : \
                    1.00000000 QLC × 100,000,000 bytes";
    assert!(text.contains(equation), "{text}");
    assert!(text.contains("70.00 %"), "{text}");
    assert!(text.contains("600,000,000.00000000"), "{text}");
    let fragment = page(&world, "/console/fragment").await;
    assert!(words(&fragment).contains(equation));
    assert!(!fragment.contains("<html"));
    let own = words(&page(&world, &format!("/console/packages/{package}")).await);
    assert!(own.contains(equation), "{own}");
    assert!(own.contains("10,000,000 0.10000000 0.00000000"), "{own}");
    assert!(own.contains("balanced"), "{own}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_page_names_every_class_with_its_reason() {
    let world = World::start().await;
    let content = world.film(&[7; 1_000]).await;
    let package = world
        .buy(&world.terms(content, 10_000, 10_000, 1_000))
        .await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 660);

    let text = words(&page(&world, &format!("/console/sessions/{session}")).await);
    let overview = words(&page(&world, "/console").await);

    for class in [
        "verified_unique",
        "retransmit",
        "verified_repeat",
        "overhead_allowed",
        "undelivered",
        "user_charged",
        "pending",
        "wire_payload",
    ] {
        assert!(text.contains(class) && overview.contains(class), "{class}");
    }
    assert!(
        text.contains("verified_unique 660 package proven to be the content"),
        "{text}"
    );
    assert!(text.contains("retransmit 20 nobody"), "{text}");
    assert!(text.contains("wire_payload 1,092"), "{text}");
    assert!(
        overview.contains("1,092 660 20 0 412 0 0 0 0"),
        "{overview}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_allow_only_their_own_files_and_no_inline_script_or_style() {
    let world = World::start().await;
    for path in [
        "/console",
        "/console/fragment",
        "/console/sessions/ses_00000000000000000000000000",
        "/console/assets/console.css",
        "/console/assets/console.js",
        "/console/assets/mark.svg",
    ] {
        let answer = world.http.get(path).await;
        let policy = answer.header("content-security-policy").unwrap().to_owned();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        if path.contains("assets") {
            continue;
        }
        let html = answer.text;
        assert!(
            !html.contains(" style=") && !html.contains("<style"),
            "{path}"
        );
        assert!(
            !html.contains(" onclick=") && !html.contains("javascript:"),
            "{path}"
        );
        assert!(
            !html.contains("//") || !html.contains("http"),
            "{path} names a host"
        );
    }
    let html = page(&world, "/console").await;
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("<script src=\"/console/assets/console.js\" defer></script>"));
    assert!(html.contains("<noscript>"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unknown_or_forged_is_an_escaped_page() {
    let world = World::start().await;

    let unknown = world
        .http
        .get("/console/packages/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        .await;
    let session = world
        .http
        .get("/console/sessions/ses_00000000000000000000000000")
        .await;
    let cursor = page(&world, "/console?packages=%22%3E%3Cscript%3E&sessions=x").await;

    assert_eq!((unknown.status, session.status), (404, 404));
    assert_eq!(
        unknown.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(!unknown.text.contains("<script>"), "{}", unknown.text);
    assert!(unknown.text.contains("There is no package"));
    assert!(!cursor.contains("<script>"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_package_shows_its_refund() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let mut terms = world.terms(content, 1_000, 1_000, 100);
    terms.carriage.operator = Units::ZERO;
    terms.carriage.basestation = Units::ZERO;
    terms.carriage.gateway = Units::new(300_000);
    let package = world.buy(&terms).await;
    let path = format!("/v1/packages/{package}/close");
    world.transact(&path, PROVIDER, json!({})).await;

    until("the close is shown", async || {
        let text = words(&page(&world, "/console").await);
        text.contains("closed 0 viewers")
    })
    .await;

    let text = words(&page(&world, &format!("/console/packages/{package}")).await);
    // The reward and what a batch fee left of the carriage.
    assert!(text.contains("Refund 0.00"), "{text}");
    assert!(text.contains("balanced"), "{text}");
}
