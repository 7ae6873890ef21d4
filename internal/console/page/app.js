// The status page. It asks the server for its status every few seconds while it is
// looked at, and shows whatever of it is there.
"use strict";

const $ = (id) => document.getElementById(id);
const every = 3000; // milliseconds between two questions
let asked = 0; // the timer
let services = [];

// make builds an element with text or children, never from markup.
function make(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (k === "class") e.className = v;
    else if (k in e) e[k] = v;
    else e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}

// set changes a text only if it is another, so that screen readers stay quiet.
function set(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

const loopback = /^https?:\/\/(127\.|localhost|\[::1\])/; // where the key test is the root user's

const list = (v) => (Array.isArray(v) ? v : []);
const word = (v) => (v === undefined || v === null ? "" : String(v));

function span(seconds) {
  const s = Math.max(0, Math.floor(Number(seconds) || 0));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([n]) => s >= n);
  if (first < 0) return "0 s";
  const [n, unit] = parts[first];
  const rest = first < 3 ? Math.floor((s % n) / parts[first + 1][0]) : 0;
  return Math.floor(s / n) + " " + unit + (rest ? " " + rest + " " + parts[first + 1][1] : "");
}

// took shortens a duration of Go, such as 46.576726ms, to three digits.
function took(text) {
  return word(text).replace(/^([\d.]+)(\D+)$/, (_, n, unit) => Number(Number(n).toPrecision(3)) + " " + unit);
}

function ago(time) {
  const t = Date.parse(time);
  if (!t || t < 0) return "not yet";
  const s = (Date.now() - t) / 1000;
  if (s < -1) return "in " + span(-s);
  return s < 1 ? "now" : span(s) + " ago";
}

function facts(dl, rows) {
  const shown = rows.filter(([, v]) => word(v) !== "");
  dl.replaceChildren(...shown.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, word(v)))));
}

function showEndpoint(s) {
  const at = word(s.endpoint) || location.origin;
  const region = word(s.region) || "us-east-1";
  set($("endpoint"), at);
  set($("env"), [
    "export AWS_ENDPOINT_URL=" + at,
    "export AWS_REGION=" + region,
    "export AWS_DEFAULT_REGION=" + region,
  ].concat(loopback.test(at) ? [
    "export AWS_ACCESS_KEY_ID=test",
    "export AWS_SECRET_ACCESS_KEY=test",
  ] : [
    "# and the root key, which skerry env prints on the machine itself",
  ]).join("\n"));
  facts($("facts"), [
    ["Account", s.account], ["Region", region],
    ["Up for", s.uptimeSeconds === undefined ? s.uptime : span(s.uptimeSeconds)],
    ["State in", s.data], ["Internal failures", s.failures],
  ]);
}

function showOff(s) {
  const off = list(s.off).concat(list(s.checks)).filter((c) => c && c.ok !== true);
  $("off-section").hidden = off.length === 0;
  $("off").replaceChildren(...off.map((c) => make("li", {},
    make("p", {}, make("strong", {}, word(c.what || c.name)), c.why ? " \u2013 " + word(c.why) : ""),
    c.mend ? make("code", {}, word(c.mend)) : null)));
}

// showServices draws the services anew only when they have changed or another
// operation is looked for, so that an open one stays open.
function showServices(s) {
  const now = list(s.services).filter((x) => x && x.id);
  if (JSON.stringify(now) === JSON.stringify(services)) return;
  services = now;
  drawServices();
}

function drawServices() {
  const want = $("find").value.trim().toLowerCase();
  const open = new Set([...$("services").querySelectorAll("details[open]")].map((d) => d.dataset.id));
  const cards = [];
  let built = 0, total = 0;
  for (const x of services) {
    const names = list(x.built);
    const all = Math.max(Number(x.operations) || 0, names.length);
    built += names.length;
    total += all;
    const found = want ? names.filter((n) => n.toLowerCase().includes(want)) : names;
    if (want && !found.length) continue;
    cards.push(make("details", { open: want !== "" || open.has(x.id), "data-id": x.id },
      make("summary", {},
        make("span", { class: "name" }, x.id),
        make("span", { class: "share" }, names.length + " of " + all),
        make("progress", { max: all || 1, value: names.length, "aria-label": x.id + ": operations built" })),
      make("ul", {}, ...found.map((n) => make("li", {}, ...marked(n, want))))));
  }
  $("services").replaceChildren(...cards);
  $("none").hidden = cards.length > 0 || !want;
  set($("services-count"), services.length ? built + " of " + total + " operations built" : "");
}

function marked(name, want) {
  const at = want ? name.toLowerCase().indexOf(want) : -1;
  if (at < 0) return [name];
  return [name.slice(0, at), make("mark", {}, name.slice(at, at + want.length)), name.slice(at + want.length)];
}

function showLoops(s) {
  const loops = list(s.loops);
  set($("loops-count"), loops.length ? String(loops.length) : "");
  $("loops").replaceChildren(...loops.map((l) => make("tr", {},
    make("th", { scope: "row" }, word(l.name)),
    make("td", {}, word(l.does)),
    make("td", { class: "time" }, l.last ? ago(l.last) : "not yet"),
    make("td", { class: "time" }, took(l.duration)),
    l.error ? make("td", { class: "bad" }, "failed: " + word(l.error)) : make("td", {}, word(l.report)),
    make("td", { class: "time" }, l.next ? ago(l.next).replace(/^.* ago$/, "now") : "when woken"))));
}

function showEngine(s) {
  const names = {
    driver: "Driver", cgroups: "Control groups, version", containers: "Sandboxes running",
    runs: "Can run sandboxes", outside: "Sandboxes reach the outside",
  };
  const say = (v) => (v === true ? "yes" : v === false ? "no" : Array.isArray(v) ? v.join(", ") : typeof v === "object" ? JSON.stringify(v) : v);
  facts($("engine"), Object.entries(s.engine || {}).map(([k, v]) =>
    [names[k] || k, say(v)]));
}

function health(text, good) {
  set($("health"), text);
  $("health").className = "health " + (good ? "good" : "bad");
}

async function ask() {
  clearTimeout(asked);
  try {
    const r = await fetch("status", { cache: "no-store" });
    if (!r.ok) throw new Error("the server answers " + r.status);
    const s = await r.json();
    set($("version"), word(s.version));
    showEndpoint(s);
    showOff(s);
    showServices(s);
    showLoops(s);
    showEngine(s);
    const failed = list(s.loops).filter((l) => l.error).length;
    if (failed) health(failed + (failed === 1 ? " loop fails" : " loops fail"), false);
    else health("running", true);
  } catch (e) {
    health(e instanceof TypeError ? "the server does not answer" : word(e.message), false);
  }
  if (!document.hidden) asked = setTimeout(ask, every);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
$("find").addEventListener("input", drawServices);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  let said = "Copied";
  try {
    await navigator.clipboard.writeText($(button.dataset.copy).textContent);
  } catch {
    // Without a secure context there is no clipboard: select the text instead.
    getSelection().selectAllChildren($(button.dataset.copy));
    said = "Selected";
  }
  button.textContent = said;
  set($("said"), said);
  setTimeout(() => { button.textContent = "Copy"; set($("said"), ""); }, 1500);
});

const themes = { get() { try { return localStorage.getItem("theme"); } catch { return null; } },
  set(v) { try { localStorage.setItem("theme", v); } catch { /* it lasts as long as the page */ } } };
if (themes.get()) document.documentElement.dataset.theme = themes.get();
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  themes.set(root.dataset.theme);
});

ask();
