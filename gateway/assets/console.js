// Keeps a page of the console current. The page is whole without this file.
//
// Finalized events come from the API's own stream; each makes the page fetch its changing part
// again, at most once per PAUSE. Counters of open sessions move without an event, so a visible
// page also looks every EVERY. Sections that did not change stay untouched: focus, selection and
// scroll positions survive.
"use strict";
(() => {
  const PAUSE = 250;
  const EVERY = 2000;
  const KINDS = ["package_bought", "package_epoch_opened", "package_closing", "package_settled",
    "package_closed", "batch_settled", "carriage_paid", "claimed", "transferred",
    "content_registered", "party_registered", "key_rotated"];
  const live = document.getElementById("live");
  const link = document.getElementById("link");
  const announce = document.getElementById("announce");
  if (!live || !window.EventSource) return;

  const show = (state, text) => {
    link.hidden = false;
    link.className = "pill " + state;
    link.textContent = text;
  };

  const words = (root) => [...root.querySelectorAll("[data-announce]")]
    .map((node) => node.textContent.replace(/\s+/g, " ").trim());

  const put = (old, fresh) => {
    const focused = old.contains(document.activeElement) && document.activeElement;
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => [box.id, box.scrollLeft]);
    const open = [...old.querySelectorAll("details[open]")].map((box) => box.id);
    old.replaceWith(fresh);
    for (const [id, left] of scrolled) {
      const box = document.getElementById(id);
      if (box) box.scrollLeft = left;
    }
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (!focused) return;
    const href = focused.getAttribute("href");
    const again = focused.id ? document.getElementById(focused.id)
      : href ? [...fresh.querySelectorAll("a")].find((a) => a.getAttribute("href") === href)
      : fresh.querySelector(focused.tagName);
    again?.focus({ preventScroll: true });
  };

  const replace = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const before = words(live);
    const fresh = [...page.body.children].map((node) => document.importNode(node, true));
    const old = [...live.children];
    const same = fresh.length === old.length && fresh.every((node, at) => node.id === old[at].id);
    if (same) {
      fresh.forEach((node, at) => {
        const [was, is] = [old[at].cloneNode(true), node];
        was.querySelectorAll("details").forEach((box) => box.removeAttribute("open"));
        if (was.outerHTML !== is.outerHTML) put(old[at], is);
      });
    } else {
      live.replaceChildren(...fresh);
    }
    const changed = words(live).filter((line) => !before.includes(line));
    if (changed.length) announce.textContent = changed.join(". ");
  };

  let running = false;
  let wanted = false;
  const refresh = async () => {
    wanted = true;
    if (running) return;
    running = true;
    while (wanted) {
      wanted = false;
      try {
        const answer = await fetch(live.dataset.fragment, { cache: "no-store" });
        if (answer.ok) replace(await answer.text());
      } catch {
        show("busy", "reconnecting");
      }
      await new Promise((done) => setTimeout(done, PAUSE));
    }
    running = false;
  };

  const stream = new EventSource(live.dataset.stream);
  stream.onopen = () => { show("good", "live"); refresh(); };
  stream.onerror = () => show("busy", "reconnecting");
  for (const kind of KINDS) stream.addEventListener(kind, refresh);
  setInterval(() => { if (!document.hidden) refresh(); }, EVERY);
})();
