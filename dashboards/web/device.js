// One device: who it is, its facts, its inventory, its reports, and what the ledger says is missing.

import { download, get } from "./api.js";
import { act, list, outcome } from "./alerts.js";
import { address, ago, bar, bytes, clock, count, el, heard, nameOf, overdue, pages, reasons, since, span, standing, table } from "./dom.js";

const limit = 100;
const shown = 5;	// open alerts above the tabs
const tabs = {
	facts: { title: "Facts", path: "state", draw: facts },
	inventory: { title: "Inventory", path: "inventory", draw: inventory, list: true },
	reports: { title: "Reports", path: "reports", draw: reports, list: true },
	events: { title: "Events", path: "events", draw: events, list: true },
	ledger: { title: "Ledger", path: "ledger", draw: ledger },
	alerts: { title: "Alerts", path: "alerts", draw: alerts, list: true },
};
const tabOf = (match) => Object.hasOwn(tabs, match[2] ?? "") ? match[2] : "facts";

export const title = (parameters, match, data) => `${nameOf(data.device)} · ${tabs[tabOf(match)].title}`;

export async function load(parameters, match, signal) {
	const tab = tabs[tabOf(match)];
	const base = `/v1/devices/${match[1]}`;
	const device = await get(base, {}, signal);
	const [part, open] = await Promise.all([
		get(`${base}/${tab.path}`, tab.list ? { limit, cursor: parameters.cursor } : {}, signal).catch((error) => {
			if (error.status === 404)
				return null;	// nothing of this kind has come yet
			throw error;
		}),
		tab === tabs.alerts ? null : get(`${base}/alerts`, { state: "open,acknowledged,silenced", limit: shown }, signal)]);
	return { device, part, open };
}

function pairs(rows) {
	return el("dl.facts", {}, rows.filter(([, value]) => value !== null && value !== undefined && value !== "")
		.map(([name, value, kind]) => [el("dt", {}, name), el(`dd.${kind ?? "told"}`, {}, value)]));
}

function identity(d) {
	return el("div.columns", {},
		pairs([["Serial", d.serial], ["Maker", d.vendor], ["Model", [d.hwmodel, d.hwversion].filter(Boolean).join(" ")],
			["Firmware", [d.swname, d.swversion].filter(Boolean).join(" ")], ["Kernel", d.kernel], ["Lifecycle", d.lifecycle]]),
		pairs([["Last heard", heard(d)], ["Reports every", d.interval_s && span(d.interval_s)], ["First heard", ago(d.first_seen)],
			["Newest report", d.seq && el("span", {}, `${count(d.seq)} of epoch `, el("span.mono", {}, d.epoch))],
			["Supported until", d.support_until], ["End of life", d.end_of_life], ["UEID", el("span.mono", {}, d.ueid)]]));
}

const losses = [["missing", "missing", "degraded"], ["forks", "forked", "untrusted"], ["chain_breaks", "with a broken chain", "untrusted"],
	["late", "late", "soft"], ["duplicates", "repeated", "soft"]];
function evidence(d) {
	const told = losses.filter(([name]) => d.ledger?.[name] > 0);
	return el("p.evidence", {}, "Reports: ", told.length ? told.map(([name, word, tone], i) =>
		[i > 0 && ", ", el(`a.${tone}.posture`, { href: `#/devices/${d.ueid}/ledger` }, `${count(d.ledger[name])} ${word}`)]) : "none missing, none forked");
}

// A challenge: whether the device could show, when it was asked, that it holds its key.
const proofs = {
	waiting: (c) => [el("span.unknown.posture", {}, "? Asked, and waited for"), ", ", ago(c.asked_at)],
	unanswered: (c) => [el("span.degraded.posture", {}, "▲ Heard, but has not proved itself"), " since it was asked ", ago(c.asked_at)],
	answered: (c) => [el("strong", {}, "Proved itself"), ` in ${count(c.round_trip_ms)} ms, `, ago(c.answered_at), ", by report ", count(c.seq)],
	expired: (c) => [el("span.unknown.posture", {}, "? Not heard in time"), " since it was asked ", ago(c.asked_at)],
};
function proof(d) {
	return el("p.evidence", { "data-key": "proof" }, el("button", { type: "button", onclick: (event) =>
		act(event, `/v1/devices/${d.ueid}/challenge`, {}, (c) => c.state === "answered" ? "" : "The device is asked to prove that it holds its key now.") }, "Prove it now"), " ",
		d.challenge ? proofs[d.challenge.state]?.(d.challenge) : el("span.soft", {}, "This device was not yet asked to prove itself."));
}

// What leads a list of names; the others follow by the alphabet.
const topics = ["device", "os", "boot", "interfaces", "packages", "clock", "hardware", "emitter"];
const fields = ["name", "protocol", "address", "port", "program"];
const place = (name, leaders) => (leaders.indexOf(name) + leaders.length + 1) % (leaders.length + 1);
const inOrder = (names, leaders) => names.sort((a, b) => place(a, leaders) - place(b, leaders) || (a < b ? -1 : 1));

const forms = [[/_bytes$/, (v) => `${bytes(v)} (${count(v)})`], [/_s$/, (v) => Math.abs(v) >= 1 ? `${span(Math.abs(v))} (${v} s)` : `${v} s`]];
function value(v, name) {
	if (Array.isArray(v) && v.length && v.every((row) => row !== null && typeof row === "object")) {
		const names = inOrder([...new Set(v.flatMap(Object.keys))], fields);
		return table(names.map((n) => ({ title: n, cell: (row) => row[n] === undefined ? el("span.soft", {}, "?") : value(row[n], n) })), v, "none");
	}
	if (Array.isArray(v))
		return v.length ? v.map(String).join(", ") : "none";
	if (v !== null && typeof v === "object")
		return JSON.stringify(v);
	if (typeof v === "boolean")
		return v ? "yes" : "no";
	const form = typeof v === "number" && forms.find(([pattern]) => pattern.test(name));
	return form ? form[1](v) : String(v);
}

const spelt = (name) => name.replace(/_(bytes|s)$/, "").replaceAll("_", " ");
function topic(name, told, why) {
	const unknown = Object.entries(why).filter(([k]) => k.split(".")[0] === name);
	return el("section.card", { "data-key": `t-${name}` }, el("h2", {}, spelt(name)), pairs([
		...inOrder(Object.keys(told), fields).map((k) => [k, told[k]]).map(([k, v]) => [spelt(k), value(v, k), Array.isArray(v) && v.length && typeof v[0] === "object" ? "wide" : "told"]),
		...unknown.map(([k, reason]) => [spelt(k.slice(name.length + 1)), el("span.unknown.posture", {}, `? unknown: ${reason}`)])]));
}

// NISTIR 8259 Table 1: its capabilities, and their key elements as the device told of them.
const capabilities = [
	["Device identification", { "DI.1": "a unique logical identifier", "DI.2": "a unique physical identifier" }],
	["Device configuration", { "DC.1": "settings can be changed", "DC.2": "only by those who may", "DC.3": "a secure configuration can be restored" }],
	["Data protection", { "DP.1": "cryptographic modules", "DP.2": "data can be made unreadable", "DP.3": "cryptography can be configured" }],
	["Logical access to interfaces", { "LA.1": "interfaces that are not needed are off", "LA.2": "access over each is restricted", "LA.3": "lock-out is configured" }],
	["Software update", { "SU.1": "software can be updated", "SU.2": "updates are confirmed to be valid", "SU.3": "updates can be rolled back",
		"SU.4": "only those who may can update", "SU.5": "updating can be turned on and off", "SU.6": "automatic updates and notifications" }],
	["Cybersecurity state awareness", { "CS.1": "the state is reported", "CS.2": "degraded is told from as expected", "CS.3": "access to the state is restricted",
		"CS.4": "the state can't be edited", "CS.5": "the state is available elsewhere" }],
];
const grades = { "in-effect": ["✔", "operational"], declared: ["○", "soft"], "not-applicable": ["–", "soft"], off: ["▲", "degraded"], weak: ["▲", "degraded"],
	"not-supported": ["▲", "degraded"] };
// What a device told that is no longer heard in time is not called good.
function element(id, what, told, late) {
	const [mark, tone] = late && told?.status === "in-effect" ? ["?", "unknown"] : grades[told?.status] ?? ["?", "unknown"];
	const status = told?.status?.replaceAll("-", " ") ?? "not reported";
	return el("li", { "data-key": `e-${id}` }, el("span.mono", {}, id), el("span", {}, what, told?.why && el("span.soft.under", {}, told.why)),
		el(`span.posture.${tone}`, {}, el("span.mark", { "aria-hidden": "true" }, mark), tone === "unknown" && told?.status === "in-effect" ? `was ${status}` : status));
}

// In unknown: what the device could not tell, by "elements.DI.1".
function elements(told, why, late) {
	const of = (id) => told?.[id] ?? (why[`elements.${id}`] ? { status: "unknown", why: why[`elements.${id}`] } : null);
	return el("section.card", { "data-key": "elements" }, el("h2", {}, "Key elements of NISTIR 8259"), el("div.elements", {}, capabilities.map(([name, list]) =>
		el("div", { "data-key": name }, el("h3", {}, name), el("ul", {}, Object.entries(list).map(([id, what]) => element(id, what, of(id), late)))))));
}

function alerts(answer, device, here, parameters) {
	return [el("section.card", {}, list(answer?.items ?? [], "There has been no alert about this device.", "About"), answer && pages(answer, parameters, here))];
}

function openAlerts(open, device) {
	return open?.items.length > 0 && [el("section.card", { "data-key": "open" }, el("h2", {}, "Open alerts"), list(open.items, "", "About"),
		open.next && el("p.pages", {}, el("a", { href: `#/devices/${device.ueid}/alerts` }, "All alerts of this device")))];
}

function facts(answer, device) {
	if (!answer?.state)
		return [el("p.empty", {}, "No state has been reported yet, so nothing can be said of this device's security.")];
	const { unknown: why = {}, elements: judged, ...state } = answer.state;
	const names = inOrder([...new Set([...Object.keys(state), ...Object.keys(why).map((k) => k.split(".")[0])])].filter((n) => n !== "elements"), topics);
	return [el("p.soft", {}, `As report ${count(answer.seq)} said, issued `, since(answer.issued_at), ", received ", since(answer.received_at), "."),
		elements(judged, why, device.posture === "silent" || overdue(device)),
		el("div.dense", {}, names.map((name) => topic(name, typeof state[name] === "object" && state[name] || {}, why)))];
}

const componentColumns = [
	{ title: "Name", cell: (c) => c.name }, { title: "Version", class: "mono", cell: (c) => c.version },
	{ title: "Type", cell: (c) => c.type }, { title: "Architecture", cell: (c) => c.architecture },
	{ title: "Source", cell: (c) => [c.source, c.source_version].filter(Boolean).join(" ") },
	{ title: "Others with it", cell: (c) => el("a", { href: address("#/devices", { component: c.name, component_version: c.version }) }, "find") },
];

function inventory(answer, device, here, parameters) {
	if (!answer)
		return [el("p.empty", {}, "No inventory has been reported yet.")];
	return [el("section.card", {},
		el("p.soft", {}, answer.complete ? `${count(answer.components)} components. ` : "The device named a set of components that is still on its way. ",
			el("span.mono", {}, answer.digest)),
		table(componentColumns, answer.items, "No component to show."), pages(answer, parameters, here))];
}

async function save(event, sha256) {
	const button = event.currentTarget;
	try {
		const url = URL.createObjectURL(await download(`/v1/reports/${sha256}`));
		el("a", { href: url, download: `${sha256}.cbor` }).click();
		URL.revokeObjectURL(url);
	} catch (error) {
		button.textContent = error.message;
	}
}

const reportColumns = [
	{ title: "Received", class: "time", cell: (r) => since(r.received_at) },
	{ title: "Issued", class: "time", cell: (r) => since(r.issued_at) },
	{ title: "Seq", class: "right", cell: (r) => count(r.seq) },
	{ title: "Epoch", class: "mono", cell: (r) => r.epoch },
	{ title: "Sections", cell: (r) => r.sections?.join(", ") || el("span.soft", {}, "quiet") },
	{ title: "Flags", cell: (r) => r.flags?.length ? el("span.unknown.posture", {}, r.flags.join(", ")) : "" },
	{ title: "Size", class: "right", cell: (r) => bytes(r.size) },
	{ title: "Signed bytes", class: "mono", cell: (r) => el("button", { type: "button", title: r.sha256, "aria-label": `Download report ${r.seq}`,
		onclick: (event) => save(event, r.sha256) }, `${r.sha256.slice(0, 12)}…`) },
];

function reports(answer, device, here, parameters) {
	return [el("section.card", {}, table(reportColumns, answer?.items ?? [], "No report is kept.", (r) => r.sha256), answer && pages(answer, parameters, here),
		el("p.soft", {}, "The signed bytes are evidence: ", el("code", {}, "fleetstate verify FILE"), " checks them anywhere, up to the maker's authority."))];
}

const told = ["position", "received_at", "kind", "others", "first", "last", "count", "epoch", "seq", "sha256"];
const eventColumns = [
	{ title: "Last", class: "time", cell: (e) => since(e.last) },
	{ title: "What", cell: (e) => e.kind },
	{ title: "Count", class: "right", cell: (e) => count(e.count) },
	{ title: "Subject", cell: (e) => e.others ? el("span.soft", {}, "others") : Object.entries(e).filter(([name]) => !told.includes(name)).map(([name, value]) => `${name} ${value}`).join(", ") },
	{ title: "Report", class: "right", cell: (e) => count(e.seq) },
];
function events(answer, device, here, parameters) {
	return [el("section.card", {}, table(eventColumns, answer?.items ?? [], "Nothing was told.", (e) => e.position), answer && pages(answer, parameters, here))];
}

const kinds = [["received", "operational", "received"], ["dropped", "unknown", "declared dropped by the device"], ["missing", "degraded", "missing"]];
function picture(epoch) {
	const parts = kinds.flatMap(([list, name]) => (epoch[list] ?? []).map(([from, to]) => ({ from, share: to - from + 1, name }))).sort((a, b) => a.from - b.from);
	return bar(parts, `${epoch.received.length} ranges received, ${epoch.missing.length} missing, ${epoch.dropped.length} declared dropped`);
}

const most = 40;	// ranges spelt out
function spell(list) {
	if (!list?.length)
		return "none";
	const head = list.slice(0, most).map(([a, b]) => a === b ? `${a}` : `${a}–${b}`).join(", ");
	return list.length > most ? `${head} and ${count(list.length - most)} more ranges` : head;
}

function epochCard(e) {
	const loud = (n, tone) => n > 0 ? el(`span.${tone}.posture`, {}, count(n)) : "0";
	return el("section.card.epoch", { "data-key": e.epoch }, el("h2", {}, "Epoch ", el("span.mono", {}, e.epoch), e.current ? ", the current one" : ""),
		!e.vouched && el("p.untrusted.posture", {}, "✖ Nobody vouched for this epoch: another device may use the same key."),
		picture(e), pairs([["Begun", clock(e.first_seen)], ["Received", spell(e.received)],
			["Missing", e.missing.length ? el("span.degraded.posture", {}, spell(e.missing)) : "none"], ["Declared dropped", spell(e.dropped)],
			["Late", count(e.late)], ["Repeated", count(e.duplicates)], ["Forks", loud(e.forks, "untrusted")], ["Chain breaks", loud(e.chain_breaks, "untrusted")]]));
}

function ledger(answer) {
	if (!answer?.epochs.length)
		return [el("p.empty", {}, "No report has come yet.")];
	const refused = Object.entries(answer.refused ?? {});
	return [el("p.soft.keys", {}, kinds.map(([, name, word]) => el("span", {}, bar([{ share: 1, name }]), word))),
		answer.epochs.map(epochCard),
		el("section.card", {}, el("h2", {}, "Refused"), refused.length ? pairs(refused.map(([reason, n]) => [reason, count(n)])) : el("p.soft", {}, "Nothing was refused."))].flat();
}

export function draw({ device, part, open }, parameters, match) {
	const tab = tabOf(match);
	const here = `#/devices/${device.ueid}/${tab}`;
	return [
		el("div.headline", {}, el("h1", {}, nameOf(device)), standing(device), el("span", {}, reasons(device)),
			el("span.soft", {}, "since ", since(device.posture_since))),
		outcome(),
		...[openAlerts(open, device)].flat().filter(Boolean),
		el("section.card", {}, identity(device), evidence(device), proof(device)),
		el("nav.tabs", { "aria-label": "About the device" }, Object.entries(tabs).map(([name, { title }]) =>
			el("a", { href: `#/devices/${device.ueid}/${name}`, "aria-current": name === tab && "page" }, title))),
		...tabs[tab].draw(part, device, here, parameters),
	];
}
