// The whole fleet: what needs attention first, then counts by posture, model, firmware and lifecycle.

import { get } from "./api.js";
import { address, ago, bar, count, el, heard, nameOf, posture, postures, reasons, severities, severity, since, standing, table } from "./dom.js";

const meaning = {
	untrusted: "forked, revoked or failing verification",
	silent: "not heard for three of their intervals",
	degraded: "a policy is not met",
	unknown: "not enough is known to judge",
	operational: "all policies are met",
};
const urgent = ["untrusted", "degraded", "silent"];
const shown = 5;	// devices of each urgent posture

export const title = () => "Fleet";

export async function load(parameters, match, signal) {
	const fleet = await get("/v1/fleet", {}, signal);
	const lists = urgent.filter((name) => fleet.posture?.[name] > 0).map((name) =>
		get("/v1/devices", { posture: name, lifecycle: "active", limit: shown }, signal));
	return { fleet, attention: (await Promise.all(lists)).flatMap((list) => list.items) };
}

const columns = [
	{ title: "Posture", cell: standing },
	{ title: "Device", cell: (d) => el("a", { href: `#/devices/${d.ueid}` }, nameOf(d)) },
	{ title: "Model", cell: (d) => d.hwmodel },
	{ title: "Why", cell: reasons },
	{ title: "Since", class: "time", cell: (d) => since(d.posture === "silent" && d.last_seen || d.posture_since) },
	{ title: "Last heard", class: "time", cell: (d) => d.posture === "silent" ? ago(d.last_seen) : heard(d) },
];

function attention(fleet, items) {
	const rest = urgent.filter((name) => fleet.posture[name] > shown);
	return el("section.card", {}, el("h2", {}, "Needs attention"),
		table(columns, items, "No device is untrusted, degraded or silent. What is unknown is not thereby healthy.", (d) => d.ueid),
		rest.length > 0 && el("p.pages", {}, rest.map((name) =>
			el("a", { href: `#/devices?posture=${name}&lifecycle=active` }, `All ${count(fleet.posture[name])} ${name}`))));
}

function alerts(open) {
	const some = severities.filter((s) => open?.[s] > 0);
	return el("p.open", {}, el("a", { href: "#/alerts" }, "Alerts"), ": ", some.length ? some.map((s, i) => [i > 0 && ", ",
		el("a.plain", { href: `#/alerts?severity=${s}` }, count(open[s]), " ", severity(s))]) : el("span.soft", {}, "none is open"));
}

function tile(name, n) {
	return el(`a.tile.${name}${n ? "" : ".none"}`, { href: `#/devices?posture=${name}&lifecycle=active`, id: `tile-${name}` },
		el("b", {}, count(n)), posture(name), el("small", {}, meaning[name]));
}

function bars(title, counts, filter) {
	const rows = Object.entries(counts ?? {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
	const most = Math.max(1, ...rows.map(([, n]) => n));
	return el("section.card", {}, el("h2", {}, title), rows.length ? el("ul.bars", {}, rows.slice(0, 12).map(([name, n]) =>
		el("li", { "data-key": `k${name}` },
			name ? el("a", { href: address("#/devices", { [filter]: name }) }, name) : el("span.soft", {}, "not reported"),
			bar([{ share: n, name: "filled" }, { share: most - n }]), el("span.n", {}, count(n))))) : el("p.empty", {}, "Nothing yet."),
		rows.length > 12 && el("p.soft", {}, `and ${count(rows.length - 12)} more`));
}

function nothing(fleet) {
	return [el("h1", {}, "No devices yet"), el("section.card", {},
		el("p", {}, `No device of ${fleet.name || fleet.tenant} is active. A device appears here with its first report that verifies.`),
		el("p", {}, "If one should be here already:"),
		el("ol", {},
			el("li", {}, "Does its certificate end at a trust anchor of this tenant? ", el("code", {}, "fleetstate trust-anchor add")),
			el("li", {}, "Does it reach the broker? Its own log says: ", el("code", {}, "journalctl -u fleetstate-emitter")),
			el("li", {}, "Was it refused? ", el("code", {}, "fleetstate_refused_total"), " at /metrics counts by reason, and /v1/refusals has samples."))),
	bars("Lifecycle", fleet.lifecycle, "lifecycle")];
}

export function draw({ fleet, attention: items }) {
	if (!fleet.total)
		return nothing(fleet);
	const of = (name) => fleet.posture?.[name] ?? 0;
	return [
		el("h1", {}, `${count(fleet.total)} devices`),
		el("div.tiles", {}, postures.map((name) => tile(name, of(name)))),
		bar(postures.map((name) => ({ share: of(name), name })), postures.map((name) => `${of(name)} ${name}`).join(", ")),
		alerts(fleet.alerts),
		attention(fleet, items),
		el("div.columns", {}, bars("Models", fleet.model, "model"), bars("Firmware", fleet.firmware, "firmware"), bars("Lifecycle", fleet.lifecycle, "lifecycle")),
	];
}
