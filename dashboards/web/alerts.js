// Alerts: what is wrong, what to do about it, and who is at it.

import { get, post } from "./api.js";
import { address, clock, count, el, pages, severities, severity, since, table } from "./dom.js";

const limit = 50;
const unresolved = "open,acknowledged,silenced";
const filters = ["state", "severity", "policy", "model"];
const pick = (parameters) => Object.fromEntries(filters.filter((f) => parameters[f]).map((f) => [f, parameters[f]]));
const here = "#/alerts";
const hours = 8;	// of silence: a shift

let told = "";	// what came of the last thing that was done

export const title = (parameters) => ["Alerts", ...Object.values(pick(parameters))].join(" · ");

export function load(parameters, match, signal) {
	return get("/v1/alerts", { state: unresolved, ...pick(parameters), cursor: parameters.cursor, limit }, signal);
}

export async function act(event, path, body, done) {
	const button = event.currentTarget;
	button.disabled = true;
	try {
		const answer = await post(path, body);
		told = done(answer);
	} catch (error) {
		told = error.status === 403 ? `${error.message} This token may look, not act: sign in with an analyst's.` : error.message;
	}
	button.disabled = false;
	dispatchEvent(new Event("acted"));
}

const inAWhile = () => new Date(Date.now() + hours * 3600000).toISOString();
function actions(a) {
	const button = (word, action, body, done) => el("button", { type: "button", "aria-label": `${word}: ${a.title}, alert ${a.id}`,
		onclick: (event) => act(event, `/v1/alerts/${a.id}/${action}`, body(), () => done) }, word);
	if (a.state === "resolved")
		return "";
	return el("span.actions", {},
		!a.acknowledged_at && button("Acknowledge", "acknowledge", () => ({}), `Alert ${a.id} is acknowledged.`),
		a.state === "silenced" ? button("End silence", "silence", () => ({ until: "2000-01-01T00:00:00Z" }), `Alert ${a.id} is no longer silent.`)
			: button(`Silence ${hours} h`, "silence", () => ({ until: inAWhile() }), `Alert ${a.id} is silent for ${hours} hours.`));
}

const whose = { group: (a) => el("a", { href: address("#/devices", { policy: a.policy }) }, `${count(a.devices)} devices`), system: () => el("span.soft", {}, "the system itself") };
const about = (a) => whose[a.scope]?.(a) ?? el("a", { href: `#/devices/${a.ueid}` }, `${a.ueid.slice(0, 12)}…`);

function standing(a) {
	const who = { acknowledged: a.acknowledged_by && `by ${a.acknowledged_by}`, silenced: a.silenced_until && `until ${clock(a.silenced_until)}`,
		resolved: a.resolved_by ? `by ${a.resolved_by}` : "by itself" }[a.state];
	return [el(`span.posture.${a.state === "open" ? "degraded" : "soft"}`, {}, a.state), who && el("span.soft.under", {}, who)];
}

const columns = [
	{ title: "Severity", cell: (a) => severity(a.severity) },
	{ title: "What, and what to do", class: "what", cell: (a) => [el("strong", {}, a.title), a.remediation && el("span.remedy", {}, a.remediation),
		el("span.soft.under", {}, [a.element, a.policy, ...(a.reasons ?? []).filter((r) => r !== a.policy)].filter(Boolean).join(" · ")), a.comment && el("span.remark", {}, `“${a.comment}”`)] },
	{ title: "About", cell: about },
	{ title: "Opened", class: "time", cell: (a) => since(a.opened_at) },
	{ title: "State", class: "time", cell: standing },
	{ title: "Action", class: "act", cell: actions },
];

export const list = (items, empty, without) => table(columns.filter((c) => c.title !== without), items, empty, (a) => a.id);
// Room for it is always there: what is done must not move the next button away.
export const outcome = () => el("p.outcome", { role: "status" }, told);

function choice(name, title, options, value) {
	return el("label", { for: `a-${name}` }, title, el("select", { id: `a-${name}`, name },
		options.map(([v, word]) => el("option", { value: v, selected: (value ?? "") === v }, word))));
}

function apply(event) {
	event.preventDefault();
	location.hash = address(here, Object.fromEntries([...new FormData(event.currentTarget)].filter(([, value]) => value)));
}

export function draw(answer, parameters) {
	const filtered = pick(parameters);
	const chosen = Object.keys(filtered).length > 0;
	return [
		el("h1", {}, "Alerts"),
		el("form.filters.few", { onsubmit: apply, onchange: (e) => e.currentTarget.requestSubmit() },
			choice("state", "State", [["", "not resolved"], ["open", "open"], ["acknowledged", "acknowledged"], ["silenced", "silenced"], ["resolved", "resolved"]], parameters.state),
			choice("severity", "Severity", [["", "any"], ...severities.map((s) => [s, s])], parameters.severity),
			chosen && el("a", { href: here }, "Show all that are not resolved")),
		outcome(),
		el("section.card", {},
			list(answer.items, chosen ? "No alert is so." : "No alert is open. What is unknown is not thereby healthy: see the fleet."),
			pages(answer, parameters, here, filtered) || el("p.pages.soft", {}, answer.items.length === 1 ? "1 alert" : `${answer.items.length} alerts`)),
	];
}
