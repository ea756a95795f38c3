// The status page. Asks /status and the list of broadcasts every second, and touches the document only where an
// answer differs from the one before. All text goes in as text: nothing that Twitch or a file name says is markup.

const POLL_MS = 1000;
const HIDDEN_POLL_MS = 15000;
const LONGEST_WAIT_MS = 10000;
const PAGE = 50;

const STATES = {
  pending: ["Queued", "muted"],
  waiting: ["Still live", "warn"],
  downloading: ["Downloading", "info"],
  verifying: ["Checking", "info"],
  downloaded: ["Downloaded", "ok"],
  uploading: ["Uploading", "info"],
  done: ["Kept", "ok"],
  failed: ["Failed, tries again", "danger"],
  parked: ["Needs you", "danger"],
  canceled: ["Canceled", "muted"],
};
const PHASES = { resolving: "Looking it up", fetching: "Downloading", muxing: "Putting it together", verifying: "Checking" };
const MISSING = {
  gone: "Twitch does not have it",
  damaged: "what Twitch has is damaged",
  gap: "Twitch says that there is nothing",
  unreachable: "Twitch could not be reached",
};
const LESS = { muted: "Muted by Twitch." };
const PROVIDERS = { twitch: "Twitch", youtube: "YouTube" };
const CONNECTIONS = {
  connected: ["Connected", "none"],
  failing: ["Tries again", "danger"],
  refused: ["Needs you", "danger"],
  expired: ["Needs you", "danger"],
  unreadable: ["Cannot be read", "danger"],
};
const ACCOUNTS_EVERY = 15; // of the rounds of the page
const BREAKER = { closed: "Closed", open: "Open", half_open: "Probing" };

// What may be asked for in which state; the service has the last word.
const ACTIONS = {
  cancel: ["pending", "waiting", "downloading", "verifying", "downloaded", "uploading", "failed", "parked"],
  retry: ["waiting", "failed", "parked", "canceled"],
  reprocess: ["done"],
};

const $ = (id) => document.getElementById(id);
const field = (root, name) => root.querySelector(`[data-field="${name}"]`);
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exactTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const whole = new Intl.NumberFormat();

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function bytes(number) {
  if (number < 1000) return `${number} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = number;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function span(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes >= 10 || (minutes && !rest)) return `${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

function clockTime(milliseconds) {
  const total = Math.round(milliseconds / 1000);
  const parts = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
}

function untilText(moment) {
  const seconds = (Date.parse(moment) - Date.now()) / 1000;
  return seconds > 0 ? `in ${span(seconds)}` : "now";
}

// --- what is known ---------------------------------------------------------------------------------------------

const vods = new Map(); // id -> the latest answer about it
const rows = new Map(); // id -> its row in the list
const nowRows = new Map(); // id -> its row among those at work
const etags = new Map(); // address -> the answer it had last
const cursors = [null]; // where each page that is shown begins
let followingCursor = null;
let status = null;
let tick = 0;

async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  return Object.assign(new Error(problem.detail || `The service answered ${response.status}.`), {
    remedy: problem.remedy || "",
  });
}

async function ask(address) {
  const response = await fetch(address, { cache: "no-cache", headers: { Accept: "application/json" } });
  if (!response.ok) throw await problemOf(response);
  const etag = response.headers.get("etag");
  if (etag && etags.get(address) === etag) return null;
  const answer = await response.json();
  etags.set(address, etag);
  return answer;
}

function listAddress(cursor) {
  return `/api/v1/vods?limit=${PAGE}${cursor ? `&after=${encodeURIComponent(cursor)}` : ""}`;
}

async function askPage(index) {
  const answer = await ask(listAddress(cursors[index]));
  if (answer === null) return false;
  for (const vod of answer.items) remember(vod);
  if (index === cursors.length - 1) followingCursor = answer.next;
  return true;
}

function remember(vod) {
  const before = vods.get(vod.id);
  vods.set(vod.id, vod);
  if (before && before.state !== vod.state && ["done", "failed", "parked"].includes(vod.state)) {
    setText($("announcer"), `${vod.title || vod.id}: ${STATES[vod.state][0]}`);
  }
}

// --- what is shown ---------------------------------------------------------------------------------------------

function showStatus() {
  const shown = (name, text) => setText(field(document, name), text);
  shown("processed", whole.format(status.processed));
  shown("processed-note", status.avg_total_ms === null ? "" : `${span(status.avg_total_ms / 1000)} each, on average`);
  shown("pending", whole.format(status.pending));
  const waiting = status.states.waiting || 0;
  shown("pending-note", waiting ? `${whole.format(waiting)} still live` : "");
  shown("errored", whole.format(status.errored));
  const parked = status.states.parked || 0;
  shown("errored-note", parked ? `${whole.format(parked)} ${parked === 1 ? "needs" : "need"} a person` : "");
  setAttribute($("tile-errored"), "data-tone", status.errored ? "danger" : "none");
  shown("circuit", BREAKER[status.circuit_state] || status.circuit_state);
  const open = status.channels.find((channel) => channel.breaker.state === status.circuit_state && channel.breaker.open_until);
  shown("circuit-note", open ? `${open.login}: next probe ${untilText(open.breaker.open_until)}` : "");
  setAttribute($("tile-circuit"), "data-tone", { open: "danger", half_open: "warn" }[status.circuit_state] || "none");
  setText($("version"), `Vodkeep ${status.version}`);
  setHidden($("channels-empty"), status.channels.length > 0);
  $("channels").replaceChildren(...status.channels.map((channel) => {
    const breaker = channel.breaker.state === "closed" ? "" : `, breaker ${BREAKER[channel.breaker.state].toLowerCase()}`;
    const note = `${whole.format(channel.processed)} kept, ${whole.format(channel.queue_depth)} to do${breaker}`;
    return chip(channel.display_name || channel.login, note, channel.breaker.state === "closed" ? "none" : "danger");
  }));
  setHidden($("processes-empty"), status.processes.length > 0);
  $("processes").replaceChildren(...status.processes.map((process) => {
    const atOnce = process.slots.capture ? `, ${whole.format(process.slots.capture)} at once` : "";
    return chip(process.host, `${process.roles.join(", ")}${atOnce}`, "none");
  }));
}

function chip(title, text, tone) {
  const item = document.createElement("li");
  item.className = "chip";
  item.dataset.tone = tone;
  const name = document.createElement("strong");
  name.textContent = title;
  const note = document.createElement("span");
  note.className = "muted";
  note.textContent = text;
  item.append(name, note);
  return item;
}

// --- accounts --------------------------------------------------------------------------------------------------

function showAccounts(answer) {
  const connected = answer.accounts.map((account) => {
    const [word, tone] = CONNECTIONS[account.state] || [account.state, "none"];
    const whose = account.channel ? ` (${account.channel})` : "";
    const notes = [word, account.encrypted ? "" : "not encrypted", account.reason, account.remedy].filter(Boolean);
    const item = chip(`${PROVIDERS[account.provider] || account.provider}${whose}`, notes.join(". "), tone);
    item.append(accountButton("Disconnect", account.provider, "disconnect", account.channel));
    return item;
  });
  const others = answer.providers.map((setup) => {
    const missing = setup.missing.length ? `Not set up: ${setup.missing.join(", ")}` : "";
    const item = chip(PROVIDERS[setup.provider] || setup.provider, missing, "none");
    if (!missing) item.append(accountButton("Connect", setup.provider, "start", ""));
    return item;
  });
  $("accounts").replaceChildren(...connected, ...others);
}

function accountButton(word, provider, action, channel) {
  const button = document.createElement("button");
  button.className = "button";
  button.type = "button";
  button.textContent = word;
  button.setAttribute("aria-label", `${word} ${PROVIDERS[provider] || provider}${channel ? ` (${channel})` : ""}`);
  button.addEventListener("click", () => changeAccount(provider, action, channel));
  return button;
}

async function changeAccount(provider, action, channel) {
  try {
    const response = await fetch(`/api/v1/accounts/${encodeURIComponent(provider)}/${action}`, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify({ channel }),
    });
    if (!response.ok) throw await problemOf(response);
    const answer = await response.json();
    if (answer.address) {
      location.assign(answer.address);
      return;
    }
    showAccountError(answer.warning, answer.remedy);
    await refreshAccounts();
  } catch (error) {
    showAccountError(error.message, error.remedy);
  }
}

function showAccountError(...words) {
  const text = words.filter(Boolean).join(" ");
  setText($("accounts-error"), text);
  setHidden($("accounts-error"), !text);
}

async function refreshAccounts() {
  const answer = await ask("/api/v1/accounts");
  if (answer) showAccounts(answer);
}

function showNow() {
  const active = status ? status.active : [];
  setHidden($("now-empty"), active.length > 0);
  for (const [id, row] of nowRows) {
    if (!active.some((item) => item.id === id)) {
      row.remove();
      nowRows.delete(id);
    }
  }
  for (const item of active) {
    let row = nowRows.get(item.id);
    if (!row) {
      row = $("now-row").content.firstElementChild.cloneNode(true);
      nowRows.set(item.id, row);
      $("now").append(row);
    }
    const vod = vods.get(item.id);
    const title = (vod && vod.title) || item.id;
    setText(field(row, "title"), title);
    setAttribute(field(row, "title"), "href", `#watch=${encodeURIComponent(item.id)}`);
    const doing = PHASES[item.progress.phase] || STATES[item.state][0];
    setText(field(row, "meta"), [item.channel, doing, item.attempt > 1 ? `attempt ${item.attempt}` : ""].filter(Boolean).join(" · "));
    const bar = row.querySelector("progress");
    setAttribute(bar, "aria-label", `Progress of ${title}`);
    if (item.progress.percent === null) bar.removeAttribute("value");
    else bar.value = item.progress.percent;
    setText(field(row, "percent"), item.progress.percent === null ? "" : `${item.progress.percent.toFixed(1)} %`);
    const total = item.progress.total_bytes ? ` of ${bytes(item.progress.total_bytes)}` : "";
    setText(field(row, "bytes"), `${bytes(item.progress.bytes)}${total}`);
    setText(field(row, "rate"), item.progress.rate_bytes_s ? `${bytes(item.progress.rate_bytes_s)}/s` : "");
    setText(field(row, "eta"), item.progress.eta_s === null ? "" : `${span(item.progress.eta_s)} left`);
  }
}

function metaOf(vod) {
  return [
    vod.channel,
    vod.date ? dateTime.format(new Date(vod.date)) : "no date",
    vod.duration_s === null ? "" : span(vod.duration_s),
    vod.size_bytes ? bytes(vod.size_bytes) : "",
    // Rounded down: with a hole it is never 100 %.
    vod.completeness !== null && vod.completeness < 1 ? `${Math.floor(vod.completeness * 1000) / 10} % complete` : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

function causeOf(vod) {
  const again = vod.not_before && ["failed", "waiting"].includes(vod.state) ? ` Tried again ${untilText(vod.not_before)}.` : "";
  if (vod.error) return `${vod.error.sentence}${again}`;
  return vod.state === "waiting" ? `The broadcast has not ended yet.${again}` : "";
}

function showVods() {
  const ordered = [...vods.values()].sort((a, b) => (b.date || "").localeCompare(a.date || "") || b.id.localeCompare(a.id));
  setHidden($("vods-empty"), ordered.length > 0);
  setHidden($("more"), followingCursor === null);
  let place = $("vods").firstElementChild;
  for (const vod of ordered) {
    let row = rows.get(vod.id);
    if (!row) {
      row = $("vod-row").content.firstElementChild.cloneNode(true);
      rows.set(vod.id, row);
    }
    if (row === place) place = place.nextElementSibling;
    else $("vods").insertBefore(row, place);
    showVod(row, vod);
  }
}

function showVod(row, vod) {
  const [word, tone] = STATES[vod.state] || [vod.state, "muted"];
  const address = `#watch=${encodeURIComponent(vod.id)}`;
  setAttribute(row, "data-tone", tone);
  setAttribute(row, "data-id", vod.id);
  setText(field(row, "title"), vod.title || vod.id);
  setAttribute(field(row, "title"), "href", address);
  setText(field(row, "meta"), metaOf(vod));
  setText(field(row, "state").querySelector(".word"), word);
  const cause = causeOf(vod);
  setText(field(row, "cause"), cause);
  setHidden(field(row, "cause"), !cause);
  const play = field(row, "play");
  setAttribute(play, "href", address);
  setAttribute(play, "aria-label", `Play ${vod.title || vod.id}`);
  setHidden(play, !vod.media.video);
  const thumb = field(row, "thumb");
  if (vod.media.thumbnail && !thumb.firstElementChild) {
    const image = new Image();
    image.alt = "";
    image.loading = "lazy";
    image.addEventListener("error", () => image.remove(), { once: true });
    image.src = vod.media.thumbnail;
    thumb.append(image);
  }
}

// --- one broadcast ---------------------------------------------------------------------------------------------

let watched = null; // id
let returnTo = null; // what had the focus before

function wantedId() {
  const match = /^#watch=(.+)$/.exec(location.hash);
  try {
    return match ? decodeURIComponent(match[1]) : null;
  } catch {
    return null;
  }
}

async function openWanted() {
  const id = wantedId();
  if (id === watched) return;
  const video = $("watch-video");
  video.pause();
  video.removeAttribute("src");
  video.load();
  watched = id;
  setHidden($("watch"), id === null);
  if (id === null) {
    document.title = "Vodkeep";
    if (returnTo && returnTo.isConnected) returnTo.focus();
    return;
  }
  returnTo = document.activeElement === document.body ? null : document.activeElement;
  const known = vods.get(id);
  setText($("watch-title"), (known && (known.title || known.id)) || id);
  setText($("watch-meta"), known ? metaOf(known) : "");
  setHidden(video, true);
  $("watch-title").focus();
  await showWatched();
}

async function showWatched() {
  const id = watched;
  const address = `/api/v1/vods/${encodeURIComponent(id)}`;
  let vod;
  try {
    etags.delete(address);
    vod = await ask(address);
  } catch (error) {
    if (watched === id) {
      setText($("watch-error"), error.message);
      setHidden($("watch-error"), false);
    }
    return;
  }
  if (watched !== id) return;
  document.title = `${vod.title || vod.id} – Vodkeep`;
  setText($("watch-title"), vod.title || vod.id);
  setText($("watch-meta"), `${metaOf(vod)} · ${(STATES[vod.state] || [vod.state])[0]}`);
  setText($("watch-error"), causeOf(vod));
  setHidden($("watch-error"), !causeOf(vod));
  setText($("watch-gone"), vod.video_let_go_at ? `Its video was let go from the disk on ${vod.video_let_go_at.slice(0, 10)}.` : "");
  setHidden($("watch-gone"), !vod.video_let_go_at);
  const video = $("watch-video");
  if (vod.media.video && !video.getAttribute("src")) video.src = vod.media.video;
  setHidden(video, !vod.media.video);
  // Operators may write the address by hand; anything but a web address is no link.
  const onYouTube = /^https:\/\//.test(vod.youtube_url || "") ? vod.youtube_url : null;
  const links = [["watch-download", vod.media.video], ["watch-manifest", vod.media.manifest], ["watch-youtube", onYouTube]];
  for (const [name, address] of links) {
    setHidden($(name), !address);
    if (address) setAttribute($(name), "href", address);
  }
  showActions(vod);
  const damage = (vod.ledger || []).filter((stretch) => stretch.source === "missing" || stretch.reason);
  $("watch-stretches").replaceChildren(...damage.map(stretchLine));
  setHidden($("watch-ledger"), damage.length === 0);
  $("watch-events").replaceChildren(...vod.events.map(eventLine).reverse());
}

function showActions(vod) {
  for (const button of document.querySelectorAll("[data-action]")) {
    const hadFocus = button === document.activeElement;
    setHidden(button, !ACTIONS[button.dataset.action].includes(vod.state));
    if (hadFocus && button.hidden) $("watch-title").focus();
  }
}

let acting = false;

async function act(action) {
  // A button that is disabled meanwhile would lose the focus.
  if (acting) return;
  acting = true;
  const id = watched;
  try {
    const response = await fetch(`/api/v1/vods/${encodeURIComponent(id)}/${action}`, {
      method: "POST",
      headers: { Accept: "application/json" },
    });
    if (!response.ok) throw await problemOf(response);
    const vod = await response.json();
    remember(vod);
    setText($("announcer"), `${vod.title || vod.id}: ${(STATES[vod.state] || [vod.state])[0]}`);
    wake();
    if (watched === id) await showWatched();
  } catch (error) {
    if (watched === id) {
      setText($("watch-error"), [error.message, error.remedy].filter(Boolean).join(" "));
      setHidden($("watch-error"), false);
    }
  } finally {
    acting = false;
  }
}

function stretchLine(stretch) {
  const line = document.createElement("li");
  const time = document.createElement("span");
  time.textContent = `${clockTime(stretch.start_ms)} to ${clockTime(stretch.end_ms)}`;
  const text = document.createElement("p");
  text.textContent = stretch.source === "missing" ? `Missing: ${MISSING[stretch.reason] || stretch.reason}.` : LESS[stretch.reason] || stretch.reason;
  line.append(time, text);
  return line;
}

function eventLine(event) {
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = event.at;
  time.textContent = exactTime.format(new Date(event.at));
  const text = document.createElement("p");
  const state = event.to_state ? (STATES[event.to_state] || [event.to_state])[0] : event.kind;
  const word = state.charAt(0).toUpperCase() + state.slice(1);
  text.textContent = [word, event.sentence, event.remedy].filter(Boolean).join(". ").replace(/([.!?])\.(?=\s|$)/g, "$1");
  line.append(time, text);
  return line;
}

// --- the loop --------------------------------------------------------------------------------------------------

function showConnection(state, word) {
  setAttribute($("connection"), "data-state", state);
  setText($("connection-word"), word);
}

function showTrouble(error) {
  showConnection("away", "No answer");
  setText($("trouble-sentence"), error instanceof TypeError ? "The service does not answer. This page tries again by itself." : error.message);
  setText($("trouble-remedy"), error.remedy || "");
  setHidden($("trouble"), false);
}

async function refresh() {
  const answer = await ask("/status");
  if (answer !== null) status = answer;
  let changed = await askPage(0);
  if (cursors.length > 1) changed = (await askPage(1 + (tick % (cursors.length - 1)))) || changed;
  // What is at work may be older than the first page.
  for (const item of status.active) {
    if (!vods.has(item.id)) {
      const vod = await ask(`/api/v1/vods/${encodeURIComponent(item.id)}`);
      if (vod) remember(vod);
    }
  }
  if (tick % ACCOUNTS_EVERY === 0) await refreshAccounts();
  tick += 1;
  showStatus();
  showNow();
  showVods();
  if (watched && changed && vods.has(watched)) await showWatched();
}

let wake = () => {};

function pause(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

async function run() {
  let failures = 0;
  for (;;) {
    try {
      await refresh();
      failures = 0;
      showConnection("live", "Live");
      setHidden($("trouble"), true);
    } catch (error) {
      failures += 1;
      showTrouble(error);
    }
    const wait = failures ? Math.min(LONGEST_WAIT_MS, POLL_MS * 2 ** (failures - 1)) : POLL_MS;
    await pause(document.hidden ? HIDDEN_POLL_MS : wait);
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) wake();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && watched && !document.fullscreenElement) location.hash = "";
});
window.addEventListener("hashchange", openWanted);
for (const button of document.querySelectorAll("[data-action]")) {
  button.addEventListener("click", () => act(button.dataset.action));
}
$("more").addEventListener("click", () => {
  if (followingCursor === null) return;
  cursors.push(followingCursor);
  tick = cursors.length - 2;
  wake();
});

run();
openWanted();
