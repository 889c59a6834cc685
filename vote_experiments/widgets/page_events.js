// What HTML inside widgets cannot do by itself: keys, clicks on marked elements, the fragment of the address, and scrolling a mark into view.
function render({ model, el }) {
  el.style.display = "none";
  const inLab = !document.body.dataset.voila && Boolean(document.querySelector(".jp-LabShell, .jp-NotebookPanel"));
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
  // Is Python still there? Every ping is answered; a page of its own also asks its server.
  const config = JSON.parse((document.getElementById("jupyter-config-data") || { textContent: "{}" }).textContent);
  let pinged = 0, ponged = 0, misses = 0, banner = null;
  model.on("msg:custom", (m) => { if (m && m.pong) ponged = Math.max(ponged, m.pong); });
  const askServer = async () => {
    try {
      const url = `${location.origin}${config.baseUrl}api/kernels/${config.kernelId}`;
      const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(2000) });
      if (answer.status === 404) return "kernel";
      return answer.ok ? (await answer.json()).execution_state : "unknown";
    } catch { return "server"; }
  };
  const show = (what) => {
    const texts = model.get("texts");
    if (!what) { banner && banner.remove(); banner = null; document.body.classList.remove("ve-is-gone"); return; }
    if (banner && banner.dataset.what === what) return;
    banner && banner.remove();
    banner = document.createElement("div");
    banner.className = "ve-banner"; banner.dataset.what = what; banner.setAttribute("role", "alert");
    const strong = document.createElement("b"); strong.textContent = texts[what] || what; banner.append(strong, " ");
    const more = model.get("running") ? (texts.running || "").replace("{run}", model.get("running")) : "";
    banner.append([more, texts[what + "_help"] || ""].filter(Boolean).join(" "));
    const again = document.createElement("button"); again.textContent = texts.reload || "Reload"; again.onclick = () => location.reload(); banner.append(again);
    document.body.prepend(banner); document.body.classList.add("ve-is-gone");
  };
  const beat = async () => {
    if (!config.kernelId || !model.get("watches")) return;
    misses = ponged >= pinged ? 0 : misses + 1;
    pinged += 1;
    try { model.send({ ping: pinged }); } catch { misses += 1; }
    if (misses < 2) { if (banner) show(""); return; }
    const state = await askServer();
    if (state === "server" || state === "kernel" || state === "dead") show(state === "server" ? "server" : "kernel");
    else if (state !== "busy" && misses >= 3) show("kernel");
  };
  const beats = setInterval(beat, 1200);
  requestAnimationFrame(() => { watch.observe(root(), { childList: true, subtree: true }); readLink(); });
  document.addEventListener("keydown", onKey, true);
  document.addEventListener("click", onClick, true);
  window.addEventListener("hashchange", readLink);
  model.on("change:link", writeLink);
  return () => {
    watch.disconnect();
    clearInterval(beats);
    document.removeEventListener("keydown", onKey, true);
    document.removeEventListener("click", onClick, true);
    window.removeEventListener("hashchange", readLink);
  };
}
export default { render };
