// Search over a list that lies beside the pages, the menu of small screens, light or dark, where one is on the page.
"use strict";
const root = document.documentElement.dataset.root;
const field = document.getElementById("search"), found = document.getElementById("found");

// ── search ──────────────────────────────────────────────────────────────────────────────────────────────────────────
let chosen = -1, loading;

const load = () => loading ??= new Promise((resolve, reject) => {  // a script, because pages from a disk may not fetch
  const script = document.createElement("script");
  script.src = root + "assets/search.js";
  script.onload = () => resolve(window.SEARCH_ROWS.map(row => ({ row, title: row[0].toLowerCase(), text: row[3].toLowerCase() })));
  script.onerror = reject;
  document.head.append(script);
});

const KIND = { guide: 45, public: 28, page: 22, section: 2, name: 1 };  // guides before names: what most people look for

function weigh({ row, title, text }, words) {
  let sum = KIND[row[4]];
  for (const word of words) {
    if (title === word) sum += 60;
    else if (title.startsWith(word)) sum += 30;
    else if (title.split(/[\s_.]+/).some(part => part.startsWith(word))) sum += 20;
    else if (title.includes(word)) sum += 10;
    else if (text.includes(word)) sum += 3;
    else return 0;
  }
  return sum - title.length / 100;
}

function marked(element, text, words) {
  const pattern = new RegExp("(" + words.map(w => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") + ")", "gi");
  text.split(pattern).forEach((part, i) => {
    const piece = i % 2 ? document.createElement("mark") : document.createElement("span");
    piece.textContent = part;
    element.append(piece);
  });
}

function excerpt(text, words) {
  const at = Math.min(...words.map(w => text.toLowerCase().indexOf(w)).filter(i => i >= 0), text.length);
  const from = at > 60 && at < text.length ? text.lastIndexOf(" ", at - 40) + 1 : 0;
  return (from ? "… " : "") + text.slice(from, from + 150) + (from + 150 < text.length ? " …" : "");
}

async function look() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return close();
  const rows = await load();
  const best = rows.map(r => [weigh(r, words), r.row]).filter(([w]) => w).sort((a, b) => b[0] - a[0]).slice(0, 14);
  found.replaceChildren(...best.map(([, [title, place, url, text]], i) => {
    const item = document.createElement("li"), link = document.createElement("a");
    item.role = "option"; item.id = "found-" + i;
    link.href = root + url; link.tabIndex = -1;
    for (const [tag, value] of [["b", title], ["small", place], ["span", excerpt(text, words)]]) {
      const part = document.createElement(tag);
      marked(part, value, words);
      link.append(part);
    }
    link.addEventListener("click", close);
    item.append(link);
    return item;
  }));
  if (!best.length) {
    const none = document.createElement("li");
    none.className = "none";
    none.textContent = "Nothing has these words. Try one of them, or a part of it.";
    found.append(none);
  }
  found.hidden = false;
  field.setAttribute("aria-expanded", "true");
  choose(best.length ? 0 : -1);
}

function choose(i) {
  const items = [...found.querySelectorAll("[role=option]")];
  chosen = items.length ? (i + items.length) % items.length : -1;
  items.forEach((item, k) => item.setAttribute("aria-selected", k === chosen));
  items[chosen]?.scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", chosen < 0 ? "" : "found-" + chosen);
}

function close() {
  found.hidden = true;
  field.setAttribute("aria-expanded", "false");
}

field.addEventListener("focus", load, { once: true });
field.addEventListener("input", look);
field.addEventListener("keydown", event => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") { choose(chosen + (event.key === "ArrowDown" ? 1 : -1)); event.preventDefault(); }
  if (event.key === "Enter") found.querySelectorAll("[role=option] a")[chosen]?.click();
  if (event.key === "Escape") { close(); field.blur(); }
});
document.addEventListener("keydown", event => {
  if (event.key === "/" && !/input|textarea/i.test(document.activeElement.tagName)) { field.focus(); field.select(); event.preventDefault(); }
});
document.addEventListener("click", event => { if (!event.target.closest(".search")) close(); });

// ── light and dark ──────────────────────────────────────────────────────────────────────────────────────────────────
const store = { get() { try { return localStorage.getItem("theme"); } catch { return null; } }, set(v) { try { localStorage.setItem("theme", v); } catch { /* private mode */ } } };
const isDark = () => document.documentElement.dataset.theme
  ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
if (store.get()) document.documentElement.dataset.theme = store.get();
document.getElementById("theme").addEventListener("click", () => {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  store.set(next);
});

// ── menu, place on the page, a place that is folded away ────────────────────────────────────────────────────────────
const menu = document.getElementById("menu"), rooms = document.getElementById("rooms");
menu.addEventListener("click", () => menu.setAttribute("aria-expanded", rooms.classList.toggle("open")));
const here = rooms.querySelector("[aria-current]");
if (here && here.offsetTop > rooms.clientHeight) rooms.scrollTop = here.offsetTop - rooms.clientHeight / 3;

const links = new Map([...document.querySelectorAll("aside a")].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
if (links.size) {
  const heads = [...links.keys()].map(id => document.getElementById(id)).filter(Boolean);
  const update = () => {
    const now = heads.filter(h => h.getBoundingClientRect().top < 120).at(-1) ?? heads[0];
    for (const [id, a] of links) a.classList.toggle("now", id === now.id);
  };
  addEventListener("scroll", update, { passive: true });
  update();
}
