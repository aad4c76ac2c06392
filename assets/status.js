// Keeps the page as the server tells it, piece by piece. Without it the page is whole, and is loaded anew every few seconds.
"use strict";

let { live, now } = document.body.dataset;
let skew = now - Date.now();
const $ = (id) => document.getElementById(id);
const rows = $("rows"), box = $("q");

// Makes an element like another one and touches nothing that is so already: focus, selection and what is open stay.
function morph(mine, theirs) {
  if (mine.nodeType !== theirs.nodeType || mine.nodeName !== theirs.nodeName || mine.id !== theirs.id) {
    mine.replaceWith(theirs.cloneNode(true));
    return;
  }
  if (mine.nodeType !== Node.ELEMENT_NODE) {
    if (mine.data !== theirs.data) mine.data = theirs.data;
    return;
  }
  if (mine.isEqualNode(theirs)) return;
  for (const { name } of [...mine.attributes]) {
    if (!theirs.hasAttribute(name) && name !== "open") mine.removeAttribute(name);
  }
  for (const { name, value } of theirs.attributes) {
    if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
  }
  const [old, wanted] = [[...mine.childNodes], [...theirs.childNodes]];
  wanted.forEach((child, i) => (i < old.length ? morph(old[i], child) : mine.append(child.cloneNode(true))));
  old.slice(wanted.length).forEach((child) => child.remove());
}

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

function length(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} days`;
}

// How long ago something was; of what is long ago, the clock's time as the server wrote it.
function tell(time) {
  const { at, as } = time.dataset;
  if (as === "clock") return;
  const past = Date.now() + skew - at;
  const text = as === "for" ? `for ${length(past)}` : past < 1500 ? "now" : `${length(past)} ago`;
  if (time.textContent !== text) time.textContent = text;
}
const tellAll = (inside) => inside.querySelectorAll("time").forEach(tell);

// A MAC address may be copied in any spelling.
function spelt(word) {
  const digits = word.replace(/[-:.]/g, "");
  return /^[0-9a-f]{12}$/.test(digits) ? digits.match(/../g).join(":") : word;
}
function filter(row) {
  const has = (word) => row.dataset.find.includes(word) || row.dataset.find.includes(spelt(word));
  row.hidden = !box.value.toLowerCase().split(/\s+/).every(has);
}
function filterAll() {
  if (!rows) return;
  document.title = $("summary").dataset.title;
  const all = Number($("summary").dataset.all);
  $("none").hidden = all === 0 || isSearching || rows.querySelector(".row:not([hidden])") !== null;
  $("empty").hidden = all > 0;
}

// What a screen reader says: machines that came to another state, and not every step of them.
function announce(changed) {
  if (changed.length === 0) return;
  const more = changed.length > 3 ? ` And ${changed.length - 3} more machines changed.` : "";
  $("news").textContent = changed.slice(0, 3).join(". ") + "." + more;
}

// What has come and is not in its place yet. A thousand rows are put there a few at a time: the page listens in between.
const waiting = new Map();
let changed = [], order = null, isBusy = false, isSearching = false;
function receive({ now, html, order: wanted }) {
  skew = now - Date.now();
  Object.entries(html).forEach(([id, text]) => waiting.set(id, text));
  order = wanted ?? order;
  if (isBusy) return;
  isBusy = true;
  work();
}
function work() {
  const until = performance.now() + 10;
  for (const [id, text] of waiting) {
    if (performance.now() > until) return setTimeout(work, 5);
    waiting.delete(id);
    put(id, element(text));
  }
  isBusy = false;
  if (order) arrange();
  announce(changed);
  changed = [];
  if (source) isSearching = false;
  filterAll();
}
function put(id, theirs) {
  const mine = $(id);
  tellAll(theirs);
  if (rows && theirs.matches(".row")) {
    const { state, name, words } = theirs.dataset;
    if (mine ? mine.dataset.state !== state : !isSearching) changed.push(`${name}: ${words}`);
    if (!mine) rows.append(theirs);
    filter(theirs);
  }
  if (mine) morph(mine, theirs);
}

// Rows change places only while nobody points at one or has the focus in it: they would press the wrong thing.
function arrange() {
  const wanted = new Set(order);
  [...rows.children].forEach((row) => wanted.has(row.id) || row.remove());
  if (rows.matches(":hover, :focus-within")) return;
  let place = rows.firstElementChild;
  for (const id of order) {
    const row = $(id);
    if (!row) continue;
    if (row === place) place = place.nextElementSibling;
    else rows.insertBefore(row, place);
  }
  order = null;
}

let source = null, heard = 0;
function follow() {
  if (!live || source) return;
  const hear = () => (heard = Date.now());
  hear();
  source = new EventSource(live);
  source.onopen = () => {
    hear();
    $("link").hidden = true;
  };
  source.onmessage = ({ data }) => {
    hear();
    receive(JSON.parse(data));
  };
  source.addEventListener("alive", hear);
  source.addEventListener("reload", () => location.reload());
  source.onerror = () => {
    lose();
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(follow, 10_000);
    }
  };
}
function unfollow() {
  source?.close();
  source = null;
}
function lose() {
  $("link").textContent = "No connection to the server; trying again…";
  $("link").hidden = false;
}
// The server says every 15 seconds that it is there. A cable that was pulled, or a night's sleep, says nothing.
function tick() {
  if (document.visibilityState !== "visible") return;
  tellAll(document);
  if (!source || Date.now() - heard < 40_000) return;
  lose();
  unfollow();
  follow();
}

// The page has not all machines where there are many of them: the server looks for more. What was typed is still there
// after a reload, and after a way back from another page.
let typing;
function search() {
  const [here, there] = [new URL(location), new URL(live, location)];
  here.searchParams.set("q", box.value);
  there.searchParams.set("q", box.value);
  there.searchParams.delete("after");
  history.replaceState(null, "", here);
  live = there.href;
  unfollow();
  follow();
}

// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => (document.visibilityState === "visible" ? follow() : unfollow()));
box?.addEventListener("input", () => {
  isSearching = true;
  unfollow();
  [...rows.children].forEach(filter);
  filterAll();
  clearTimeout(typing);
  typing = setTimeout(search, 300);
});
rows?.addEventListener("pointerleave", () => order && arrange());
setInterval(tick, 1000);
tellAll(document);
follow();
