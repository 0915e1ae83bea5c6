// Elements from data. Text is only ever set as text, so that nothing a device says can become markup.

import { now } from "./api.js";

// Characters that are not seen, or that turn the direction of what follows, are spelt out: a name must not look like another.
const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const plain = (text) => text.replace(hidden, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

// Whose fleet is looked at stands in each address of this page: whoever is given one may look at another's.
let whose = "";
export const nameTenant = (id) => whose = id;
export function placed(hash) {
	const [path, query] = hash.split("?");
	const parameters = new URLSearchParams(query ?? "");
	if (!whose || parameters.get("tenant"))
		return hash;
	parameters.set("tenant", whose);
	return `${path}?${parameters}`;
}

export function el(name, attributes, ...children) {
	const [tag, ...classes] = name.split(".");
	const node = document.createElement(tag);
	if (classes.length)
		node.className = classes.join(" ");
	for (const [key, value] of Object.entries(attributes ?? {})) {
		if (value === null || value === undefined || value === false)
			continue;
		if (typeof value === "function")
			node[key] = value;	// onclick and the like, as properties: patch.js carries them over
		else
			node.setAttribute(key, value === true ? "" : plain(key === "href" && value.startsWith("#/") ? placed(value) : String(value)));
	}
	for (const child of children.flat(2))
		if (child !== null && child !== undefined && child !== false)
			node.append(child instanceof Node ? child : plain(String(child)));
	return node;
}

function svg(name, attributes, ...children) {
	const node = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const [key, value] of Object.entries(attributes))
		node.setAttribute(key, value);
	node.append(...children);
	return node;
}

// A mark as well as a colour, so that posture is never told by colour alone.
const marks = { untrusted: "✖", silent: "◌", degraded: "▲", unknown: "?", operational: "✔" };
export const postures = Object.keys(marks);

// What the page does not know is unknown, never healthy.
export function posture(name) {
	const known = postures.includes(name);
	return el(`span.posture.${known ? name : "unknown"}`, {}, el("span.mark", { "aria-hidden": "true" }, known ? marks[name] : "?"), name ?? "unknown");
}

const grades = { critical: ["‼", "untrusted"], high: ["▲", "degraded"], medium: ["△", "unknown"], low: ["–", "soft"] };
export const severities = Object.keys(grades);
export const severity = (name) => el(`span.posture.${grades[name]?.[1] ?? "unknown"}`, {}, el("span.mark", { "aria-hidden": "true" }, grades[name]?.[0] ?? "?"), name);

// A device's posture: one that has not been heard in time is not called healthy, also before the collector has called it silent.
export const standing = (device) => device.posture === "operational" && overdue(device)
	? el("span.posture.unknown", {}, el("span.mark", { "aria-hidden": "true" }, "?"), "was operational") : posture(device.posture);

const words = {
	"no-state": "has not told its state", "no-policies": "no policy judges it", silent: "not heard for three of its intervals",
	fork: "two reports under one number: a cloned key?", "second-epoch": "a new epoch that nobody vouched for: a cloned key?",
	"key-revoked": "uses a revoked key",
};
export const reasons = (device) => (device.reasons ?? []).map((reason) => words[reason] ?? reason).join("; ");

// Who a device is, in a word or two.
export const nameOf = (device) => device.serial || `${device.ueid.slice(0, 12)}…`;

const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
export function span(seconds) {
	const at = units.findIndex(([size]) => seconds >= size);
	if (at < 0)
		return "0 s";
	const [size, unit] = units[at];
	const rest = at < 2 && units[at + 1];
	const fine = rest && Math.floor(seconds % size / rest[0]);
	return `${Math.floor(seconds / size)} ${unit}${fine ? ` ${fine} ${rest[1]}` : ""}`;
}

const pad = (n) => String(n).padStart(2, "0");
export function clock(time) {
	const t = new Date(time);
	const day = `${t.getUTCFullYear()}-${pad(t.getUTCMonth() + 1)}-${pad(t.getUTCDate())}`;
	const hour = `${pad(t.getUTCHours())}:${pad(t.getUTCMinutes())}`;
	return day === new Date(now()).toISOString().slice(0, 10) ? `${hour}:${pad(t.getUTCSeconds())} UTC` : `${day} ${hour} UTC`;
}

const age = (time) => span(Math.max(0, (now() - Date.parse(time)) / 1000));

export const ago = (time) => time ? el("time", { datetime: time, title: time, "data-age": true }, `${age(time)} ago`) : el("span.soft", {}, "never");
export const since = (time) => el("time", { datetime: time, title: time }, clock(time));

// Ages go on without new data.
export function tick(root) {
	for (const node of root.querySelectorAll("[data-age]")) {
		const text = `${age(node.dateTime)} ago`;
		if (node.textContent !== text)
			node.textContent = text;
	}
}

// How long a device should have been heard again by now, in seconds; 0 when it is in time. Two intervals of grace are the collector's own.
export function overdue(device) {
	if (!device.last_seen || !device.interval_s)
		return 0;
	const quiet = (now() - Date.parse(device.last_seen)) / 1000;
	return quiet > 3 * device.interval_s ? quiet : 0;
}

// The last sign of a device, and since when there is none.
export function heard(device) {
	if (device.posture === "silent")
		return device.last_seen ? [el("span.silent.posture", {}, "silent since ", since(device.last_seen)), el("span.soft.under", {}, ago(device.last_seen))] : el("span.silent.posture", {}, "never heard");
	return overdue(device) ? el("span.unknown.posture", { title: `reports every ${span(device.interval_s)}` }, "overdue, ", ago(device.last_seen)) : ago(device.last_seen);
}

// A column with a `head` is sorted by what that leads to; `sorted` says which way it is.
export function table(columns, rows, empty, key) {
	if (!rows.length)
		return el("p.empty", {}, empty);
	return el("div.scroll", {}, el("table", { role: "table" },
		el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
			columns.map((c) => el("th", { role: "columnheader", scope: "col", class: c.class, "aria-sort": c.sorted },
				c.head ? el("a", { href: c.head }, c.title, c.sorted && el("span", { "aria-hidden": "true" }, c.sorted === "ascending" ? " ↑" : " ↓")) : c.title)))),
		el("tbody", { role: "rowgroup" }, rows.map((row) => el("tr", { role: "row", "data-key": key && key(row) },
			columns.map((c) => el("td", { role: "cell", class: c.class, "data-title": c.title }, c.cell(row) ?? "")))))));
}

// A place on this page, with what was chosen there.
export const address = (place, chosen) => Object.keys(chosen).length ? `${place}?${new URLSearchParams(chosen)}` : place;

// The way through a list at a place; nothing when one page holds it.
export function pages(list, parameters, place, chosen = {}) {
	const page = Number(parameters.page) || 1;
	return (parameters.cursor || list.next) && el("nav.pages", { "aria-label": "Pages" },
		el("span.soft", {}, `Page ${page}`),
		parameters.cursor && el("a", { href: address(place, chosen) }, "First page"),
		list.next ? el("a", { href: address(place, { ...chosen, page: page + 1, cursor: list.next }), rel: "next" }, "Next page") : el("span.soft", {}, "This is the last."));
}

// A horizontal bar of parts, each {share, name}; drawn, since styles in markup are refused by the page's own policy.
export function bar(parts, label) {
	const whole = Math.max(1, parts.reduce((sum, part) => sum + part.share, 0));
	const picture = svg("svg", { viewBox: `0 0 ${whole} 1`, preserveAspectRatio: "none", class: "bar", ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }) });
	let at = 0;
	for (const { share, name } of parts) {
		if (share && name)
			picture.append(svg("rect", { x: at, y: 0, width: share, height: 1, class: name }));
		at += share;
	}
	return picture;
}

export function bytes(n) {
	return n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : n < 1073741824 ? `${(n / 1048576).toFixed(1)} MiB` : `${(n / 1073741824).toFixed(1)} GiB`;
}

export const count = (n) => (n ?? 0).toLocaleString("en");
