// The device list: filters and order in the address, so that a view can be passed on; pages by cursor.

import { get, link } from "./api.js";
import { address, el, heard, nameOf, pages, postures, reasons, since, standing, table } from "./dom.js";

const limit = 50;
const searches = 8;	// for one page: a search for what is rare is answered in parts
const plain = ["q", "posture", "lifecycle", "model", "firmware", "component", "component_version"];
const more = ["label", "policy", "where", "changed_since", "as_of"];
const filters = [...plain, ...more];
const pick = (parameters, names) => Object.fromEntries(names.filter((n) => parameters[n]).map((n) => [n, parameters[n]]));
const here = "#/devices";

export const title = (parameters) => ["Devices", ...Object.values(pick(parameters, filters))].join(" · ");

async function find(parameters, chosen, signal) {
	const list = { items: [], next: parameters.cursor };
	for (let i = 0; i < searches && list.items.length < limit && (i === 0 || list.next); i++) {
		const page = await get("/v1/devices", { ...chosen, cursor: list.next, limit: limit - list.items.length }, signal);
		list.items.push(...page.items);
		list.next = page.next;
		list.ordered_at ??= page.ordered_at;
	}
	return list;
}

export async function load(parameters, match, signal) {
	const chosen = pick(parameters, [...filters, "sort"]);
	try {
		return await find(parameters, chosen, signal);
	} catch (error) {
		if (error.type !== "bad-parameter" && error.type !== "gone")
			throw error;
		return { items: [], next: null, problem: error.message };	// beside the field, to be put right
	}
}

function choice(name, title, values, parameters, none = "any") {
	return el("label", { for: `f-${name}` }, title, el("select", { id: `f-${name}`, name },
		el("option", { value: "" }, none), values.map(([value, words]) => el("option", { value, selected: parameters[name] === value }, words))));
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
	if (chosen.as_of)
		delete chosen.sort;	// what is past is told in the order of enrolment
	location.hash = address(here, chosen);
}

const orders = [["posture", "Worst posture"], ["-posture_since", "Latest change of posture"], ["serial", "Serial number"], ["model", "Model"], ["firmware", "Firmware"],
	["-first_seen", "Newest"], ["last_seen", "Longest not heard"], ["ueid", "UEID"]];
// All that are offered, and the one that is chosen by a column's head.
function ways(sort) {
	const other = sort?.startsWith("-") ? sort.slice(1) : `-${sort}`;
	const turned = orders.find(([name]) => name === other);
	return turned ? [...orders, [sort, `${turned[1]}, the other way round`]] : orders;
}

const columns = [
	{ title: "Posture", sort: "posture", cell: standing },
	{ title: "Device", sort: "serial",
		cell: (d) => [el("a", { href: `#/devices/${d.ueid}` }, nameOf(d)), el("span.mono.soft.under", { title: d.ueid }, `${d.ueid.slice(0, 20)}…`)] },
	{ title: "Model", sort: "model", cell: (d) => [d.vendor, d.hwmodel].filter(Boolean).join(" ") },
	{ title: "Firmware", sort: "firmware", cell: (d) => [d.swname, d.swversion].filter(Boolean).join(" ") },
	{ title: "Why", cell: reasons },
	{ title: "Since", sort: "posture_since", class: "time", cell: (d) => since(d.posture_since) },
	{ title: "Last heard", sort: "last_seen", class: "time", cell: heard },
	{ title: "Lifecycle", cell: (d) => d.lifecycle },
];

// What a click on a column's head leads to: its order, and then the other way round.
function heads(parameters, filtered) {
	const sort = parameters.sort ?? "";
	return columns.filter(({ cell }) => !filtered.as_of || cell !== heard).map((c) => c.sort && !filtered.as_of ? {
		...c, sorted: sort === c.sort ? "ascending" : sort === `-${c.sort}` ? "descending" : null,
		head: address(here, { ...filtered, sort: sort === c.sort ? `-${c.sort}` : c.sort }),
	} : c);
}

const words = (names) => names.map((n) => [n, n]);
function several(parameters, name, names) {
	return parameters[name]?.includes(",") ? [...words(names), [parameters[name], parameters[name].replaceAll(",", " or ")]] : words(names);
}

function none(list, chosen) {
	if (list.next)
		return "None was found so far. The next page goes on searching.";
	return chosen ? "No device matches. Model, firmware and component are compared whole; the first field finds parts." : "No device has enrolled yet.";
}

// Of very many the order is made now and then, and who was heard since shows it.
function heardSince(list) {
	return list.ordered_at && list.items.some((d) => d.last_seen > list.ordered_at) && el("p.remark", {}, "In the order in which they had been heard by ",
		since(list.ordered_at), ", when it was last made. Some have been heard since.");
}

export function draw(list, parameters) {
	const filtered = pick(parameters, filters);
	const kept = { ...filtered, ...pick(parameters, ["sort"]) };
	const chosen = Object.keys(filtered).length > 0;
	const time = { placeholder: "2026-01-31T12:00:00Z", maxlength: 40 };
	return [
		el("h1", {}, "Devices"),
		el("form.filters", { role: "search", onsubmit: apply, onchange: (e) => e.target.tagName === "SELECT" && e.currentTarget.requestSubmit() },
			field("q", "Serial, model, firmware, label or UEID", parameters, { type: "search", placeholder: "press / to search" }),
			choice("posture", "Posture", several(parameters, "posture", postures), parameters),
			choice("lifecycle", "Lifecycle", several(parameters, "lifecycle", ["pending", "active", "retired", "revoked", "transferred"]), parameters),
			field("model", "Model", parameters), field("firmware", "Firmware", parameters),
			field("component", "Has component", parameters), field("component_version", "in version", parameters),
			el("button.main", { type: "submit" }, "Filter"),
			el("details", { open: Object.keys(pick(parameters, more)).length > 0 }, el("summary", {}, "More filters, and the order"),
				el("div.fields", {},
					field("label", "Label", parameters, { placeholder: "site:berlin" }), field("policy", "Violates policy", parameters),
					field("where", "State, as an SQL/JSON path", parameters, { placeholder: "strict $.boot.secure == false", maxlength: 2048 }),
					field("changed_since", "Changed since", parameters, time), field("as_of", "As it was at", parameters, time),
					choice("sort", "Order", ways(parameters.sort), parameters, "as enrolled"))),
			list.problem && el("p.error", { role: "alert" }, list.problem),
			el("p.ways", {}, (chosen || parameters.sort) && el("a", { href: here }, "Show all"),
				!list.problem && el("a.button", { href: link("/v1/devices", { ...kept, format: "csv" }), download: "devices.csv", title: "All that match, not only this page" }, "Export as CSV"))),
		!list.problem && el("section.card", {},
			heardSince(list),
			filtered.as_of && el("p.remark", {}, "The devices as they were known on ", el("time", { datetime: filtered.as_of }, filtered.as_of), "."),
			table(heads(parameters, filtered), list.items, none(list, chosen), (d) => d.ueid),
			pages(list, parameters, here, kept) || el("p.pages.soft", {}, list.items.length === 1 ? "1 device" : `${list.items.length} devices`)),
	].filter(Boolean);
}
