// The page's life. Everything that people, documents or the model wrote goes in by textContent only; there is no innerHTML.
"use strict";

const find = (id) => document.getElementById(id);
const ANSWERS = 10, LINE = 8, POLL_MS = 30000, RETRY_MS = 2000, FINAL = ["done", "failed", "cancelled"];
let token = sessionStorage.getItem("monk-token") || "";
let cursor = null;            // the last event seen
let nextPage = null;          // of the answers
const voices = new Map();     // job id -> Map(thought id -> {title, text}), of running jobs
const marks = new Map();      // job id -> shows on its card what a person thinks of the answer

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// ── the daemon ─────────────────────────────────────────────────────────────────────────────────────────────────────────

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function call(path, options = {}) {
  const headers = { ...(options.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  if (response.status === 401) askForToken(told.error && token ? told.error.message : "");
  throw new Refused(response.status, told.error ? told.error.message : `HTTP ${response.status}`);
}

const read = async (path) => (await call(path)).json();
const post = async (path, body) => (await call(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body || {}),
})).json();

function askForToken(message) {
  find("token-form").hidden = false;
  find("ask").hidden = find("answers-part").hidden = true;
  find("tonight").textContent = "A token is needed to come in.";
  if (message) find("token-note").textContent = message;
}

// ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

function when(text) {
  if (!text) return "";
  const moment = new Date(text), today = new Date();
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  if (moment.toDateString() === today.toDateString()) return time;
  return `${moment.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })}, ${time}`;
}

function asked(job) {
  const input = job.input || {};
  if (input.question) return input.question;
  if (input.questions) return `${input.document}: ${input.questions.join("; ")}`;
  if (input.messages && input.messages.length) return input.messages[input.messages.length - 1].content || "";
  return Object.values(input).find((value) => typeof value === "string") || job.kind;
}

function gigabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}

// ── tonight ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function showNight(night) {
  const line = find("tonight"), button = find("night-button");
  line.classList.toggle("open", night.open);
  if (night.open) {
    line.textContent = night.closes_at ? `It is night until ${when(night.closes_at)}.` : "It is night, until told otherwise.";
  } else {
    line.textContent = night.next_open_at ? `It is day. The night opens ${when(night.next_open_at)}.` : "It is day. No night is planned.";
  }
  button.hidden = false;
  button.textContent = night.open ? "Close the night" : "Open a night now";
  button.onclick = () => act(button, async () => showNight(await post(night.open ? "/night/close" : "/night/open")));
}

function showFacts(status) {
  const { queue, engine, corpus } = status, model = engine.model;
  const speed = engine.decode_tokens_per_second ? `, ${engine.decode_tokens_per_second} tokens/s` : "";
  const facts = {
    Queue: `${queue.queued} in line, ${queue.running} running, ${queue.waiting} waiting, ${queue.done} done, ${queue.failed} failed`,
    Engine: `${engine.state}${model ? `, ${model.name}, ${model.context} tokens of context` : ""}${speed}` +
      (engine.num_restarts ? `, restarted ${engine.num_restarts}×` : ""),
    Corpus: corpus.state === "reading" ? `reading, ${corpus.files_done} of ${corpus.files_total} files` : corpus.folder,
    Memory: `${gigabytes(status.memory.available_bytes)} of ${gigabytes(status.memory.total_bytes)} free`,
    Disk: `${gigabytes(status.disk.free_bytes)} free`,
    Version: status.version,
  };
  find("facts").replaceChildren(...Object.entries(facts).flatMap(([name, text]) => [
    make("dt", { textContent: name }), make("dd", { textContent: text }),
  ]));
  const problems = find("problems");
  problems.hidden = !status.problems.length;
  problems.replaceChildren(...status.problems.map((text) => make("li", { textContent: text })));
}

async function refreshStatus() {
  const status = await read("/status");
  showNight(status.night);
  showFacts(status);
}

async function showReport() {
  const [report] = (await read("/reports?limit=1")).reports;
  find("report-line").hidden = !report;
  if (!report) return;
  find("report-when").textContent = `written ${when(report.created_at)}`;
  find("report-link").onclick = token ? openReport : null;  // a link cannot carry the token, so it is read here
}

async function openReport(event) {
  event.preventDefault();
  show("The latest report", await (await call("/reports/latest.md")).text());
}

async function showKinds() {
  const { kinds } = await read("/kinds");
  const simple = kinds.filter((kind) => "question" in (kind.input.properties || {}));
  find("kind").replaceChildren(...simple.map((kind) => make("option", {
    value: kind.name, textContent: kind.name, title: kind.summary, selected: kind.name === "answer",
  })));
}

// ── jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function refreshLine() {
  const { jobs } = await read(`/jobs?state=queued&state=waiting&limit=${LINE}`);
  const counts = (await read("/status")).queue;
  find("line-part").hidden = !jobs.length;
  find("line-count").textContent = counts.queued + counts.waiting > jobs.length ? `${jobs.length} newest of ${counts.queued + counts.waiting}` : "";
  find("line").replaceChildren(...jobs.map((job) => make("li", {},
    make("span", { className: "what", textContent: asked(job), title: asked(job).slice(0, 500) }),
    make("span", { className: "when note", textContent: expected(job) }),
    cancelButton(job),
  )));
}

function expected(job) {
  if (job.state === "waiting") return `not before ${when(job.ready_at)}`;
  if (job.forecast.starts_at) return `begins about ${when(job.forecast.starts_at)}`;
  return job.position === null ? "" : `${job.position} before it`;
}

function cancelButton(job) {
  const button = make("button", { type: "button", className: "link-button", textContent: "cancel" });
  button.setAttribute("aria-label", `cancel: ${asked(job).slice(0, 80)}`);
  button.onclick = () => act(button, async () => { await post(`/jobs/${job.id}/cancel`); await refreshJobs(); });
  return button;
}

async function refreshThinking() {
  const { jobs } = await read("/jobs?state=running&limit=20");
  const running = new Set(jobs.map((job) => job.id));
  for (const id of voices.keys()) if (!running.has(id)) voices.delete(id);
  const fresh = jobs.filter((job) => !voices.has(job.id));
  await Promise.all(fresh.map(listenFromBeginning));
  find("thinking-part").hidden = !jobs.length;
  find("thinking").replaceChildren(...jobs.map(thinkingCard));
  for (const job of jobs) showVoices(job.id);
}

async function listenFromBeginning(job) {
  const whole = await read(`/jobs/${job.id}`);
  const heard = new Map();
  for (const thought of whole.thoughts.filter((one) => one.state === "running")) {
    heard.set(thought.id, { title: titleOf(thought), text: thought.text || "", from: whole.events.cursor });
  }
  voices.set(job.id, heard);
}

const titleOf = (thought) => (thought.sample ? `${thought.name} ${thought.sample + 1}` : thought.name || "");

function thinkingCard(job) {
  const live = make("div", { className: "text live", id: `live-${job.id}` });
  live.setAttribute("tabindex", "0");
  return make("article", { className: "card" },
    make("h3", { textContent: asked(job) }), live,
    make("p", { className: "meta note" },
      make("span", { textContent: `${job.kind}, since ${when(job.started_at)}` }),
      job.forecast.ends_at ? make("span", { textContent: `ends about ${when(job.forecast.ends_at)}` }) : null,
      cancelButton(job)),
  );
}

function showVoices(jobId) {
  const live = find(`live-${jobId}`);
  if (!live) return;
  const atEnd = live.scrollTop + live.clientHeight >= live.scrollHeight - 8;
  const heard = [...(voices.get(jobId) || new Map()).values()].filter((voice) => voice.text);
  live.replaceChildren(...heard.map((voice) => make("div", { className: "voice" },
    heard.length > 1 ? make("b", { textContent: voice.title }) : null, document.createTextNode(voice.text))));
  if (!heard.length) live.append(make("div", { className: "voice", textContent: "reading … " }));
  if (atEnd) live.scrollTop = live.scrollHeight;
}

async function refreshAnswers() {
  const page = await read(`/jobs?state=done&state=failed&limit=${ANSWERS}`);
  nextPage = page.next;
  const cards = await Promise.all(page.jobs.map(answerCard));
  if (cards.length) find("answers").replaceChildren(...cards);
  find("more").hidden = nextPage === null;
}

async function olderAnswers() {
  const page = await read(`/jobs?state=done&state=failed&limit=${ANSWERS}&cursor=${encodeURIComponent(nextPage)}`);
  nextPage = page.next;
  find("answers").append(...await Promise.all(page.jobs.map(answerCard)));
  find("more").hidden = nextPage === null;
}

async function answerCard(summary) {
  const job = await read(`/jobs/${summary.id}`), result = job.result || {};
  const text = make("div", { className: "text", textContent: result.answer || (job.error ? job.error.message : "") });
  text.classList.toggle("bad", job.state === "failed");
  const card = make("article", { className: "card" }, make("h3", { textContent: asked(job) }), text);
  if ((result.answer || "").length > 1200) card.append(unfold(text));
  if (result.citations && result.citations.length) card.append(citations(result.citations));
  const cost = (job.thoughts || []).reduce((sum, thought) => sum + thought.num_tokens, 0);
  card.append(make("p", { className: "meta note" },
    make("span", { textContent: `${job.kind}, ${job.state} ${when(job.finished_at)}` }),
    cost ? make("span", { textContent: `${cost} tokens` }) : null,
    job.state === "failed" ? retryButton(job) : null,
    ...(job.state === "done" ? verdictButtons(job) : [])));
  return card;
}

function unfold(text) {
  text.classList.add("clamped");
  const button = make("button", { type: "button", className: "link-button", textContent: "read on" });
  button.setAttribute("aria-expanded", "false");
  button.onclick = () => {
    const folded = text.classList.toggle("clamped");
    button.textContent = folded ? "read on" : "fold";
    button.setAttribute("aria-expanded", String(!folded));
  };
  return button;
}

function citations(cited) {
  return make("ol", { className: "citations" }, ...cited.map((one, index) => make("li", {},
    make("span", { className: "number", textContent: `[${index + 1}]` }),
    make("div", {},
      make("q", { textContent: one.quote }),
      make("cite", {}, passageLink(one))))));
}

function passageLink(one) {
  const place = one.page ? { page: one.page } : one.line ? { line: one.line } : {};
  const path = /^[0-9a-f]{32}$/.test(one.passage || "") ? `/corpus/passages/${one.passage}`
    : `/corpus/passages?${new URLSearchParams({ file: one.file, ...place })}`;
  const words = [one.file, ...Object.entries(place).map(([unit, number]) => `${unit} ${number}`)].join(", ");
  const link = make("a", { href: path, textContent: words });
  link.onclick = (event) => { event.preventDefault(); openPassage(path); };  // read here: a link cannot carry the token
  return link;
}

async function openPassage(path) {
  try {
    const found = await (await call(path, { headers: { Accept: "application/json" } })).json();
    const [[unit, number]] = Object.entries(found.place);
    show("A passage", `${found.file}, ${unit} ${number}\n${found.heading}\n\n${found.text}`);
  } catch (error) { show("A passage", error.message); }
}

function show(label, text) {
  find("reader").setAttribute("aria-label", label);
  find("reader-text").textContent = text;
  if (!find("reader").open) find("reader").showModal();
}

function followHash() {  // links of the report lead here where a token is needed
  if (location.hash.startsWith("#/corpus/passages")) openPassage(location.hash.slice(1));
}

function retryButton(job) {
  const button = make("button", { type: "button", className: "link-button", textContent: "try again" });
  button.onclick = () => act(button, async () => { await post(`/jobs/${job.id}/retry`); await refreshJobs(); });
  return button;
}

function verdictButtons(job) {  // a correction is given on the command line; pressing the same again would lose it
  const buttons = ["useful", "wrong"].map((verdict) => make("button", {
    type: "button", className: "link-button verdict", textContent: verdict, value: verdict,
  }));
  const mark = (given) => buttons.forEach((button) => {
    button.disabled = Boolean(given) && given.verdict === button.value;
    button.setAttribute("aria-pressed", String(button.disabled));
  });
  for (const button of buttons) button.onclick = () => judge(button, job);
  marks.set(job.id, mark);
  mark(job.feedback);
  return buttons;
}

async function judge(button, job) {
  let given = null;
  await act(button, async () => { given = await post(`/jobs/${job.id}/feedback`, { verdict: button.value }); });
  if (given) marks.get(job.id)(given);
}

async function act(button, work) {
  button.disabled = true;
  try { await work(); } catch (error) { find("ask-note").textContent = error.message; } finally { button.disabled = false; }
}

// ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────────────

const due = new Set();
let dueTimer = null;

function soon(...works) {  // many events in a row cost one refresh
  works.forEach((work) => due.add(work));
  dueTimer = dueTimer || setTimeout(async () => {
    const now = [...due];
    due.clear();
    dueTimer = null;
    for (const work of now) await work().catch(() => {});
  }, 300);
}

const refreshJobs = async () => { await refreshThinking(); await refreshLine(); };

function hear(event) {
  cursor = event.id;
  const heard = voices.get(event.job_id);
  if (event.type === "progress" && heard) {
    const voice = heard.get(event.thought_id) || { title: "", text: "", from: 0 };
    if (event.id > voice.from) voice.text += event.data.text || "";
    heard.set(event.thought_id, voice);
    showVoices(event.job_id);
  } else if (event.type === "thinking" && heard) {
    heard.set(event.thought_id, { title: titleOf(event.data), text: "", from: event.id });
  } else if (event.type === "thought" && heard) {
    heard.delete(event.thought_id);
    showVoices(event.job_id);
  } else if (FINAL.includes(event.type)) {
    soon(refreshJobs, refreshAnswers, refreshStatus);
  } else if (event.type === "feedback" && marks.has(event.job_id)) {
    marks.get(event.job_id)(event.data);
  } else if (event.type === "report") {
    soon(showReport);
  } else if (["submitted", "claimed", "released", "recovered", "retried", "error"].includes(event.type)) {
    soon(refreshJobs, refreshStatus);
  } else if (event.type.startsWith("night_") || event.type === "corpus" || event.type === "engine") {
    soon(refreshStatus);
  }
}

async function listen() {
  for (;;) {
    try {
      const response = await call(`/events${cursor === null ? "" : `?after=${cursor}`}`);
      await parse(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (error) {
      if (error.status === 401) return;
      find("tonight").textContent = "The daemon does not answer; trying again …";
    }
    await new Promise((done) => setTimeout(done, RETRY_MS));
    soon(refreshStatus, refreshJobs, refreshAnswers);
  }
}

async function parse(reader) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const line = block.split("\n").find((one) => one.startsWith("data: "));
      if (line) hear(JSON.parse(line.slice(6)));
    }
  }
}

// ── people ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = find("question"), button = find("ask").querySelector("button"), note = find("ask-note");
  if (!question.value.trim()) return;
  act(button, async () => {
    const job = await post("/jobs", { kind: find("kind").value || "answer", input: { question: question.value } });
    question.value = "";
    note.textContent = job.forecast.starts_at ? `In line; begins about ${when(job.forecast.starts_at)}.` : "In line for the night.";
    await refreshLine();
  });
});

find("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
});

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  sessionStorage.setItem("monk-token", token);
  location.reload();
});

window.addEventListener("hashchange", followHash);

find("more").addEventListener("click", () => act(find("more"), olderAnswers));

async function begin() {
  try {
    await refreshStatus();
    await Promise.all([showKinds(), showReport(), refreshAnswers()]);
    await refreshJobs();
    followHash();
  } catch (error) {
    if (error.status === 401) return;
    find("tonight").textContent = `The daemon does not answer: ${error.message}`;
  }
  listen();
  setInterval(() => refreshStatus().catch(() => {}), POLL_MS);
}

begin();
