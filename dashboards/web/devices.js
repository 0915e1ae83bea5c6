// The device list: filters in the address, so that a view can be passed on; pages by cursor.

import { get } from "./api.js";
import { ago, el, posture, postures, table } from "./dom.js";

const filters = ["q", "posture", "lifecycle", "model", "firmware", "component", "component_version"];
const pick = (parameters) => Object.fromEntries(filters.filter((f) => parameters[f]).map((f) => [f, parameters[f]]));
const address = (parameters) => `#/devices?${new URLSearchParams(parameters)}`;

export const load = (parameters, match, signal) =>
	get("/v1/devices", { ...pick(parameters), cursor: parameters.cursor, limit: 50 }, signal);

function choice(name, title, values, parameters) {
	return el("label", { for: `f-${name}` }, title, el("select", { id: `f-${name}`, name },
		el("option", { value: "" }, "any"), values.map((v) => el("option", { value: v, selected: parameters[name] === v }, v))));
}

function field(name, title, parameters) {
	return el("label", { for: `f-${name}` }, title, el("input", { id: `f-${name}`, name, value: parameters[name] ?? "", size: 14 }));
}

function apply(event) {
	event.preventDefault();
	const chosen = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value.trim() !== ""));
	document.activeElement?.blur();
	location.hash = address(chosen);
}

const columns = [
	{ title: "Posture", cell: (d) => posture(d.posture) },
	{ title: "Device", cell: (d) => el("a", { href: `#/devices/${d.ueid}` }, d.serial || `${d.ueid.slice(0, 10)}…`) },
	{ title: "Model", cell: (d) => [d.vendor, d.hwmodel].filter(Boolean).join(" ") },
	{ title: "Firmware", cell: (d) => [d.swname, d.swversion].filter(Boolean).join(" ") },
	{ title: "Why", cell: (d) => (d.reasons ?? []).join(", ") },
	{ title: "Lifecycle", cell: (d) => d.lifecycle },
	{ title: "Last heard", cell: (d) => ago(d.last_seen) },
	{ title: "UEID", mono: true, cell: (d) => d.ueid },
];

export function draw(list, parameters) {
	return [
		el("h1", {}, "Devices"),
		el("form.filters", { onsubmit: apply, onchange: (e) => e.target.tagName === "SELECT" && e.currentTarget.requestSubmit() },
			field("q", "Search serial, model, UEID", parameters),
			choice("posture", "Posture", postures, parameters),
			choice("lifecycle", "Lifecycle", ["pending", "active", "retired", "revoked", "transferred"], parameters),
			field("model", "Model", parameters), field("firmware", "Firmware", parameters),
			field("component", "Has component", parameters), field("component_version", "of version", parameters),
			el("button.main", { type: "submit" }, "Filter"),
			Object.keys(pick(parameters)).length > 0 && el("a", { href: "#/devices" }, "Show all")),
		el("section.card", {}, table(columns, list.items, "No device matches."),
			el("div.pages", {},
				parameters.cursor && el("a", { href: address(pick(parameters)) }, "First page"),
				list.next && el("a", { href: address({ ...pick(parameters), cursor: list.next }) }, "Next page"))),
	];
}
