// Keeps the page as the server tells it, piece by piece. Without it the page is whole, and is loaded anew every few seconds.
"use strict";

const { live, now } = document.body.dataset;
const skew = now - Date.now();
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
    if (!theirs.hasAttribute(name) && name !== "open" && name !== "hidden") mine.removeAttribute(name);
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

function filter(row) {
  const text = row.textContent.toLowerCase();
  row.hidden = !box.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
function filterAll() {
  if (!rows) return;
  [...rows.children].forEach(filter);
  const all = Number($("summary").dataset.all);
  $("none").hidden = all === 0 || [...rows.children].some((row) => !row.hidden);
  $("empty").hidden = all > 0;
}

// What a screen reader says: machines that came to another state, and not every step of them.
function announce(changed) {
  if (changed.length === 0) return;
  const more = changed.length > 3 ? ` And ${changed.length - 3} more machines changed.` : "";
  $("news").textContent = changed.slice(0, 3).join(". ") + "." + more;
}

function apply({ html, order }) {
  const changed = [];
  for (const [id, text] of Object.entries(html)) {
    const theirs = element(text);
    const mine = $(id);
    tellAll(theirs);
    if (rows && theirs.parentNode && theirs.matches(".row")) {
      const { state, name, words } = theirs.dataset;
      if (mine?.dataset.state !== state) changed.push(`${name}: ${words}`);
      if (!mine) rows.append(theirs);
      filter(mine ?? theirs);
    }
    if (mine) morph(mine, theirs);
  }
  if (order) arrange(order);
  announce(changed);
  filterAll();
}

// Rows change places only while nobody points at one or has the focus in it: they would press the wrong thing.
let later = null;
function arrange(order) {
  const wanted = new Set(order);
  [...rows.children].forEach((row) => wanted.has(row.id) || row.remove());
  later = order;
  if (rows.matches(":hover, :focus-within")) return;
  let place = rows.firstElementChild;
  for (const id of order) {
    const row = $(id);
    if (!row) continue;
    if (row === place) place = place.nextElementSibling;
    else rows.insertBefore(row, place);
  }
  later = null;
}

let source = null;
function follow() {
  if (!live || source) return;
  source = new EventSource(live);
  source.onopen = () => ($("link").hidden = true);
  source.onmessage = ({ data }) => apply(JSON.parse(data));
  source.onerror = () => {
    $("link").textContent = "No connection to the server; trying again…";
    $("link").hidden = false;
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(follow, 10_000);
    }
  };
}

// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") return follow();
  source?.close();
  source = null;
});
box?.addEventListener("input", filterAll);
rows?.addEventListener("pointerleave", () => later && arrange(later));
setInterval(() => document.visibilityState === "visible" && tellAll(document), 1000);
tellAll(document);
follow();
