// One device: who it is, its facts, its inventory, its reports, and what the ledger says is missing.

import { download, get } from "./api.js";
import { ago, bytes, el, posture, svg, table } from "./dom.js";

const tabs = { facts: "Facts", inventory: "Inventory", reports: "Reports", ledger: "Ledger" };
const parts = { facts: "state", inventory: "inventory", reports: "reports", ledger: "ledger" };

export async function load(parameters, [, ueid, tab = "facts"], signal) {
	const base = `/v1/devices/${ueid}`;
	const list = tab === "inventory" || tab === "reports" ? { limit: 200, cursor: parameters.cursor } : {};
	const [device, part] = await Promise.all([get(base, {}, signal),
		get(`${base}/${parts[tab] ?? "state"}`, list, signal).catch((error) => {
			if (error.status === 404)
				return null;	// nothing of this kind yet
			throw error;
		})]);
	return { device, part };
}

function identity(d) {
	const rows = [["Serial", d.serial], ["Maker", d.vendor], ["Model", [d.hwmodel, d.hwversion].filter(Boolean).join(" ")],
		["Firmware", [d.swname, d.swversion].filter(Boolean).join(" ")], ["Kernel", d.kernel], ["Lifecycle", d.lifecycle],
		["First heard", ago(d.first_seen)], ["Last heard", ago(d.last_seen)], ["Report", d.seq && `${d.seq} of epoch ${d.epoch}`]];
	return el("dl.facts", {}, rows.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function value(v) {
	if (Array.isArray(v) && v.length && typeof v[0] === "object") {
		const names = [...new Set(v.flatMap(Object.keys))];
		return table(names.map((name) => ({ title: name, cell: (row) => row[name] === undefined ? "" : String(row[name]) })), v, "none");
	}
	if (Array.isArray(v))
		return v.length ? v.join(", ") : "none";
	return typeof v === "boolean" ? (v ? "yes" : "no") : String(v);
}

function facts(answer) {
	const state = answer?.state ?? answer;
	if (!state)
		return [el("p.empty", {}, "No state has been reported yet.")];
	const why = state.unknown ?? {};
	const topics = new Set([...Object.keys(state), ...Object.keys(why).map((k) => k.split(".")[0])]);
	topics.delete("unknown");
	return [el("div.columns", {}, [...topics].map((topic) => el("section.card", {}, el("h2", {}, topic),
		el("dl.facts", {},
			Object.entries(state[topic] ?? {}).map(([name, v]) => [el("dt", {}, name), el("dd", {}, value(v))]),
			Object.entries(why).filter(([k]) => k.split(".")[0] === topic).map(([k, reason]) =>
				[el("dt", {}, k.slice(topic.length + 1)), el("dd.why", {}, `? unknown: ${reason}`)])))))];
}

const componentColumns = [
	{ title: "Type", cell: (c) => c.type }, { title: "Name", cell: (c) => c.name }, { title: "Version", mono: true, cell: (c) => c.version },
	{ title: "Architecture", cell: (c) => c.architecture }, { title: "Source", cell: (c) => [c.source, c.source_version].filter(Boolean).join(" ") },
	{ title: "Package URL", mono: true, cell: (c) => c.purl },
];

async function save(sha256) {
	const url = URL.createObjectURL(await download(`/v1/reports/${sha256}`));
	el("a", { href: url, download: `${sha256}.cbor` }).click();
	URL.revokeObjectURL(url);
}

const reportColumns = [
	{ title: "Epoch", mono: true, cell: (r) => r.epoch }, { title: "Seq", right: true, cell: (r) => String(r.seq) },
	{ title: "Issued", cell: (r) => r.issued_at }, { title: "Received", cell: (r) => r.received_at },
	{ title: "Sections", cell: (r) => (r.sections ?? []).join(", ") || el("span.soft", {}, "quiet") },
	{ title: "Size", right: true, cell: (r) => bytes(r.size) },
	{ title: "Signed bytes", mono: true, cell: (r) => el("button", { type: "button", title: r.sha256, onclick: () => save(r.sha256) }, `${r.sha256.slice(0, 12)}…`) },
];

function pages(list, here, first) {
	return el("div.pages", {}, first && el("a", { href: here }, "First page"),
		list.next && el("a", { href: `${here}?${new URLSearchParams({ cursor: list.next })}` }, "Next page"));
}

function ranges(epoch) {
	const top = Math.max(1, ...[...epoch.received, ...epoch.missing, ...(epoch.dropped ?? [])].map(([, b]) => b));
	const picture = svg("svg", { viewBox: `0 0 ${top} 1`, preserveAspectRatio: "none", role: "img",
		"aria-label": `${epoch.missing.length} missing ranges of ${top} reports` });
	for (const [list, name] of [[epoch.received, "here"], [epoch.dropped ?? [], "declared"], [epoch.missing, "gone"]])
		for (const [a, b] of list)
			picture.append(svg("rect", { x: a - 1, y: 0, width: Math.max(b - a + 1, top / 400), height: 1, class: name }));
	return picture;
}

const spell = (list) => list?.length ? list.map(([a, b]) => a === b ? `${a}` : `${a}–${b}`).join(", ") : "none";

function ledger(answer) {
	if (!answer)
		return [el("p.empty", {}, "No report yet.")];
	const refused = Object.entries(answer.refused ?? {});
	return [el("section.card", {}, el("h2", {}, "Reports by epoch"),
		el("p.soft", {}, el("i.key.here"), "received", el("i.key.declared"), "declared dropped by the device", el("i.key.gone"), "missing"),
		answer.epochs.map((e) => el("div.epoch", {}, el("p.mono", {}, `epoch ${e.epoch}`), ranges(e), el("dl.facts", {},
			[["Received", spell(e.received)], ["Missing", spell(e.missing)], ["Declared dropped", spell(e.dropped)], ["Duplicates", e.duplicates],
				["Forks", e.forks], ["Chain breaks", e.chain_breaks]].map(([k, v]) => [el("dt", {}, k), el("dd", {}, String(v))]))))),
	el("section.card", {}, el("h2", {}, "Refused"), refused.length ? el("dl.facts", {},
		refused.map(([reason, n]) => [el("dt", {}, reason), el("dd", {}, String(n))])) : el("p.empty", {}, "Nothing was refused."))];
}

export function draw({ device, part }, parameters, [, ueid, tab = "facts"]) {
	const here = `#/devices/${ueid}/${tab}`;
	const body = {
		facts: () => facts(part),
		inventory: () => [el("section.card", {}, table(componentColumns, part?.items ?? [], "No inventory yet."), part && pages(part, here, parameters.cursor))],
		reports: () => [el("section.card", {}, table(reportColumns, part?.items ?? [], "No report yet."), part && pages(part, here, parameters.cursor))],
		ledger: () => ledger(part),
	}[tab] ?? (() => facts(part));
	return [
		el("div.headline", {}, el("h1", {}, device.serial || device.hwmodel || "Device"), posture(device.posture),
			el("span.soft", {}, (device.reasons ?? []).join(", ")), el("span.mono.soft", {}, device.ueid)),
		el("section.card", {}, identity(device)),
		el("div.tabs", {}, Object.entries(tabs).map(([name, title]) =>
			el("a", { href: `#/devices/${ueid}/${name}`, "aria-current": name === tab && "page" }, title))),
		...body(),
	];
}
