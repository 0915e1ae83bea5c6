// The device list: filters in the address, so that a view can be passed on; pages by cursor.

import { get, link } from "./api.js";
import { address, el, heard, nameOf, pages, postures, reasons, standing, table } from "./dom.js";

const limit = 50;
const filters = ["q", "posture", "lifecycle", "model", "firmware", "component", "component_version", "policy"];
const pick = (parameters) => Object.fromEntries(filters.filter((f) => parameters[f]).map((f) => [f, parameters[f]]));
const here = "#/devices";

export const title = (parameters) => ["Devices", ...Object.values(pick(parameters))].join(" · ");

export const load = (parameters, match, signal) =>
	get("/v1/devices", { ...pick(parameters), cursor: parameters.cursor, limit }, signal);

function choice(name, title, values, parameters) {
	return el("label", { for: `f-${name}` }, title, el("select", { id: `f-${name}`, name },
		el("option", { value: "" }, "any"), values.map((v) => el("option", { value: v, selected: parameters[name] === v }, v))));
}

function field(name, title, parameters, more) {
	return el("label", { for: `f-${name}` }, title,
		el("input", { id: `f-${name}`, name, value: parameters[name] ?? "", autocomplete: "off", spellcheck: "false", maxlength: 128, ...more }));
}

function apply(event) {
	event.preventDefault();
	const chosen = Object.fromEntries([...new FormData(event.currentTarget)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
	if (!chosen.component)
		delete chosen.component_version;
	location.hash = address(here, chosen);
}

const columns = [
	{ title: "Posture", cell: standing },
	{ title: "Device", cell: (d) => [el("a", { href: `#/devices/${d.ueid}` }, nameOf(d)), el("span.mono.soft.under", { title: d.ueid }, `${d.ueid.slice(0, 20)}…`)] },
	{ title: "Model", cell: (d) => [d.vendor, d.hwmodel].filter(Boolean).join(" ") },
	{ title: "Firmware", cell: (d) => [d.swname, d.swversion].filter(Boolean).join(" ") },
	{ title: "Why", cell: reasons },
	{ title: "Last heard", class: "time", cell: heard },
	{ title: "Lifecycle", cell: (d) => d.lifecycle },
];

export function draw(list, parameters) {
	const filtered = pick(parameters);
	const chosen = Object.keys(filtered).length > 0;
	return [
		el("h1", {}, "Devices"),
		el("form.filters", { role: "search", onsubmit: apply, onchange: (e) => e.target.tagName === "SELECT" && e.currentTarget.requestSubmit() },
			field("q", "Serial, model, firmware or UEID", parameters, { type: "search", placeholder: "press / to search" }),
			choice("posture", "Posture", postures, parameters),
			choice("lifecycle", "Lifecycle", ["pending", "active", "retired", "revoked", "transferred"], parameters),
			field("model", "Model", parameters), field("firmware", "Firmware", parameters),
			field("component", "Has component", parameters), field("component_version", "in version", parameters),
			parameters.policy && field("policy", "Violates policy", parameters),
			el("button.main", { type: "submit" }, "Filter"),
			chosen && el("a", { href: here }, "Show all"),
			el("a", { href: link("/v1/devices", { ...filtered, format: "csv" }), download: "devices.csv", title: "All that match, not only this page" }, "Export as CSV")),
		el("section.card", {},
			table(columns, list.items, chosen ? "No device matches. Model, firmware and component are compared whole; the first field finds parts." : "No device has enrolled yet.", (d) => d.ueid),
			pages(list, parameters, here, filtered) || el("p.pages.soft", {}, list.items.length === 1 ? "1 device" : `${list.items.length} devices`)),
	];
}
