// The whole fleet: counts by posture, model, firmware and lifecycle.

import { get } from "./api.js";
import { el, postures } from "./dom.js";

const meaning = {
	untrusted: "forked, revoked or failing verification",
	silent: "not heard for three intervals",
	degraded: "a policy is not met",
	unknown: "not enough is known to judge",
	operational: "all policies met",
};

export const load = (parameters, match, signal) => get("/v1/fleet", {}, signal);

function bars(title, counts, link) {
	const rows = Object.entries(counts ?? {}).sort((a, b) => b[1] - a[1]);
	const most = Math.max(1, ...rows.map(([, n]) => n));
	return el("section.card", {}, el("h2", {}, title), rows.length ? el("ul.bars", {}, rows.slice(0, 12).map(([name, n]) =>
		el("li", {}, el("a", { href: link(name) }, name || "not reported"),
			el("span.bar", {}, fill(n / most)), el("span.n", {}, n.toLocaleString("en"))))) : el("p.empty", {}, "Nothing yet."));
}

// A style attribute would need a looser Content-Security-Policy; setting the property does not.
function fill(share) {
	const bar = el("i");
	bar.style.width = `${100 * share}%`;
	return bar;
}

export function draw(fleet) {
	const count = (name) => fleet.posture?.[name] ?? 0;
	const share = el("div.share", { role: "img", "aria-label": postures.map((p) => `${count(p)} ${p}`).join(", ") });
	for (const name of postures) {
		const part = el(`i.${name}`, { title: `${name}: ${count(name)}` });
		part.style.flexGrow = count(name);
		if (count(name))
			share.append(part);
	}
	return [
		el("h1", {}, `${(fleet.total ?? 0).toLocaleString("en")} devices`),
		el("div.tiles", {}, postures.map((name) => el(`a.tile.${name}${count(name) ? "" : ".none"}`, { href: `#/devices?posture=${name}` },
			el("b", {}, count(name).toLocaleString("en")), name, el("br"), el("small", {}, meaning[name])))),
		share,
		el("div.columns", {},
			bars("Models", fleet.model, (name) => `#/devices?model=${encodeURIComponent(name)}`),
			bars("Firmware", fleet.firmware, (name) => `#/devices?firmware=${encodeURIComponent(name)}`),
			bars("Lifecycle", fleet.lifecycle, (name) => `#/devices?lifecycle=${encodeURIComponent(name)}`)),
	];
}
