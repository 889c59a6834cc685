// What HTML inside widgets cannot do by itself: keys, clicks on marked elements, the fragment of the address, and scrolling a mark into view.
function render({ model, el }) {
  el.style.display = "none";
  const inLab = Boolean(document.querySelector(".jp-LabShell"));
  const root = () => el.closest(model.get("scope")) || document.body;
  const isShown = () => el.isConnected && root().getClientRects().length > 0;
  let count = 0;
  const send = (kind, value) => {
    count += 1;
    model.set("event", { kind, value: String(value ?? ""), count: Date.now() + count });
    model.save_changes();
  };
  const KEYS = { j: "next", k: "previous", ArrowRight: "next", ArrowLeft: "previous", "?": "help", "+": "zoom_in", "-": "zoom_out",
                 n: "next_page", p: "previous_page", d: "differences", f: "fix" };
  const isTyping = (t) => t.closest && t.closest("input, textarea, select, [contenteditable=true], .cm-editor, [role=slider], [role=tab]");
  const onKey = (e) => {
    if (!model.get("takes_keys") || e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || !isShown()) return;
    const isInside = root().contains(e.target) || (e.target === document.body && !inLab);
    const name = KEYS[e.key];
    if (!name || !isInside || isTyping(e.target)) return;
    e.preventDefault();
    e.stopPropagation();
    send("key", name);
  };
  const onClick = (e) => {
    const marked = e.target.closest && e.target.closest("[data-ve-send]");
    if (!marked || !root().contains(marked)) return;
    e.preventDefault();
    send(marked.dataset.veSend, marked.dataset.veValue);
  };
  const fragment = () => decodeURIComponent(location.hash.slice(1));
  const readLink = () => {
    if (!inLab && model.get("takes_links") && fragment() && fragment() !== model.get("link")) {
      model.set("link", fragment());
      model.save_changes();
      send("link", fragment());
    }
  };
  const writeLink = () => {
    if (inLab || !model.get("takes_links")) return;
    const link = model.get("link");
    history.replaceState(null, "", link ? "#" + link.split("&").map((p) => p.split("=").map(encodeURIComponent).join("=")).join("&") : location.pathname + location.search);
  };
  const centre = () => {
    for (const mark of root().querySelectorAll(".ve-region.is-now:not([data-seen])")) {
      mark.dataset.seen = "yes";
      const sheet = mark.closest(".ve-sheet");
      if (!sheet) continue;
      const place = () => {
        sheet.scrollTop = mark.offsetTop + mark.offsetHeight / 2 - sheet.clientHeight / 2;
        sheet.scrollLeft = mark.offsetLeft + mark.offsetWidth / 2 - sheet.clientWidth / 2;
      };
      const image = sheet.querySelector("img");
      image && !image.complete ? image.addEventListener("load", place, { once: true }) : place();
    }
  };
  const watch = new MutationObserver(centre);
  requestAnimationFrame(() => { watch.observe(root(), { childList: true, subtree: true }); readLink(); });
  document.addEventListener("keydown", onKey, true);
  document.addEventListener("click", onClick, true);
  window.addEventListener("hashchange", readLink);
  model.on("change:link", writeLink);
  return () => {
    watch.disconnect();
    document.removeEventListener("keydown", onKey, true);
    document.removeEventListener("click", onClick, true);
    window.removeEventListener("hashchange", readLink);
  };
}
export default { render };
