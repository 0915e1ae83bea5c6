// The analyst's page: a session, then one view at a time, brought up to date with each event, and every few seconds besides, while it is looked at.

import { Problem, close, follow, get, now, open, trouble } from "./api.js";
import { clock, el, nameTenant, placed, span, tick } from "./dom.js";
import { patch } from "./patch.js";
import * as fleet from "./fleet.js";
import * as devices from "./devices.js";
import * as device from "./device.js";
import * as alerts from "./alerts.js";

const every = 5000;	// milliseconds between two looks
const least = 1000;	// between two that events bring about
const $ = (id) => document.getElementById(id);

// A view: title(parameters, match, data), load(parameters, match, signal) -> data, draw(data, parameters, match) -> nodes.
const views = [
	{ pattern: /^\/$/, nav: "#/", view: fleet },
	{ pattern: /^\/devices$/, nav: "#/devices", view: devices },
	{ pattern: /^\/alerts$/, nav: "#/alerts", view: alerts },
	{ pattern: /^\/devices\/([0-9a-f]{34})(?:\/(\w+))?$/, nav: "#/devices", view: device },
];

let tenant = null;	// whose fleet; null: nobody has signed in
let tenantId = "";	// the same as addresses have it
let drawn = false;	// whether a view is on the screen, not a failure
let updated = 0;	// when the last answer came
let problem = null;	// why there is no newer one
let unready = "";	// what of the collector itself does not work
let timer = 0;
let pending = null;

function place() {
	const [path, query] = (location.hash.slice(1) || "/").split("?");
	const row = views.find(({ pattern }) => pattern.test(path)) ?? views[0];
	return { ...row, path, match: row.pattern.exec(path) ?? [], parameters: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

// What whoever is on call can do about it.
function advice(error) {
	switch (error.status) {
	case 0: return `Check that the collector runs, and that this computer reaches ${location.host}.`;
	case 400: return "Show the first page, or change the filters.";
	case 403: return "Ask an administrator for a token of another role.";
	case 404: return "It may belong to another tenant, or its address is mistyped.";
	case 503: return error.type === "not-yet" ? "It takes some seconds." : "The collector runs, but its database does not answer in time. See /readyz and the collector's log.";
	default: return "See the collector's log.";
	}
}

function failure(error) {
	return [el("section.card", {}, el("h1", {}, "That can't be shown"), el("p.error", { role: "alert" }, error.message), el("p", {}, advice(error)),
		el("p.pages", {}, el("button.main", { type: "button", onclick: () => look(true) }, "Try again"), el("a", { href: "#/devices" }, "All devices"), el("a", { href: "#/" }, "The fleet")))];
}

// fresh: another place was asked for. Otherwise the same once more, without disturbing whoever reads or types there.
async function look(fresh) {
	clearTimeout(timer);
	pending?.abort();
	const mine = pending = new AbortController();
	const at = place();
	if (fresh) {
		drawn = false;
		$("main").setAttribute("aria-busy", "true");
	}
	try {
		await turn(at.parameters.tenant, mine.signal);
		const [data, ill] = await Promise.all([at.view.load(at.parameters, at.match, mine.signal), trouble(mine.signal)]);
		if (mine !== pending)
			return;
		[problem, unready, updated] = [null, ill, Date.now()];
		show(at, data);
	} catch (error) {
		if (mine !== pending || error.name === "AbortError")
			return;
		if (!(error instanceof Problem))
			console.error(error);
		if (error.status === 401)
			return signIn("You are no longer signed in: the session is over, or its token is no longer good.");
		problem = error;
		if (!drawn)
			replace(failure(error), at);
		if (!drawn && error.status >= 400 && error.status < 500)
			[problem, updated] = [null, Date.now()];	// it did answer
	}
	tell();
	if (!document.hidden)
		timer = setTimeout(() => look(false), every);
}

// To the tenant of the address; an address that names none is made to.
async function turn(to, signal) {
	if (to && to !== tenantId) {
		become(await open("", to, signal), to);
		listen();
	} else if (!to) {
		history.replaceState(history.state, "", placed(location.hash || "#/"));
	}
}

// Once more, soon: much may happen at once, and one look shows it all.
let soon = 0;
function lookSoon() {
	if (!soon)
		soon = setTimeout(() => {
			soon = 0;
			if (tenant !== null && !document.hidden)
				look(false);
		}, least);
}

let stream = null;
let last = null;	// the place in the feed
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
async function listen() {
	stream?.abort();
	const mine = stream = new AbortController();
	while (mine === stream && !document.hidden && tenant !== null) {
		try {
			await follow("/v1/events/stream", { after: last }, mine.signal, (id, happened) => {
				last = id;
				if (happened)
					lookSoon();
			});
		} catch (error) {
			if (mine.signal.aborted)
				return;
			if (error.status === 410 || error.status === 400)
				last = null;	// what lies between is seen by looking
		}
		await pause(every);
	}
}

function show(at, data) {
	// Also of the same data: time alone makes a device overdue.
	const nodes = at.view.draw(data, at.parameters, at.match);
	document.title = `${at.view.title(at.parameters, at.match, data)} · ${tenant} · fleetstate`;
	if (drawn)
		patch($("main"), nodes);
	else
		replace(nodes, at);
	drawn = true;
}

let lastPath = null;
let searching = false;	// the search field was asked for before it was there
function replace(nodes, at) {
	const focused = document.activeElement?.id;
	const main = $("main");
	main.replaceChildren(...nodes);
	main.removeAttribute("aria-busy");
	for (const link of $("nav").children)
		link.getAttribute("href") === at?.nav ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
	const again = searching ? $("f-q") : at?.path === lastPath && focused && $(focused);
	searching = false;
	if (again) {
		again.focus({ preventScroll: true });
		if (again.type === "search" || again.type === "text")
			again.setSelectionRange(again.value.length, again.value.length);
	} else if (at && lastPath !== null) {
		main.focus({ preventScroll: true });
	}
	lastPath = at?.path ?? null;
	scrollTo(0, history.state?.y ?? 0);
}

// How old the picture is, and what is wrong with it. Nothing may look healthy that is not known to be so now.
function tell() {
	const seconds = Math.round((Date.now() - updated) / 1000);
	const old = seconds > 3 * every / 1000;
	$("live").textContent = problem || old ? `${span(seconds)} old` : "live";
	$("live").classList.toggle("late", problem !== null || old);
	$("main").classList.toggle("stale", drawn && (problem !== null || old));
	let text = "";
	if (problem && drawn)
		text = `${problem.message} What is shown is as of ${clock(now() - (Date.now() - updated))}, and things may be worse by now. ${advice(problem)} Trying again every ${every / 1000} s.`;
	else if (unready)
		text = `The collector is not ready: ${unready}. Devices may fall silent because of it. See its log.`;
	if ($("trouble").textContent !== text)
		$("trouble").textContent = text;
	$("trouble").hidden = text === "";
	tick($("main"));
}

function frame(visible) {
	for (const id of ["nav", "live", "leave"])
		$(id).hidden = !visible;
	$("tenant").textContent = visible ? tenant : "";
	if (!visible)
		$("trouble").hidden = true;
}

// asksTenant: the token is an operator's, and each question has to name a tenant.
function signIn(error, token = "", asksTenant = false) {
	tenant = null;
	tenantId = "";
	nameTenant("");
	last = null;
	clearTimeout(timer);
	pending?.abort();
	pending = null;
	stream?.abort();
	stream = null;
	drawn = false;
	frame(false);
	document.title = "fleetstate";
	const input = el("input", { id: "token", type: "password", autocomplete: "current-password", spellcheck: "false", required: true, maxlength: 128, placeholder: "fst_…" });
	input.value = token;
	const whose = el("input", { id: "of", type: "text", autocomplete: "off", spellcheck: "false", required: true, maxlength: 63, placeholder: "acme" });
	const enterIt = (event) => {
		event.preventDefault();
		enter(input.value.trim(), asksTenant ? whose.value.trim() : "");
	};
	$("main").classList.remove("stale");
	replace([el("section.card.signin", {},
		el("h1", {}, "Is the fleet still secure?"),
		el("form", { onsubmit: enterIt },
			el("input", { type: "text", autocomplete: "username", value: "fleetstate", hidden: true, readonly: true }),
			el("label", { for: "token" }, "Access token", input),
			asksTenant && el("label", { for: "of" }, "Tenant", whose),
			error && el("p.error", { role: "alert" }, error),
			el("button.main", { type: "submit" }, "Show the fleet"),
			el("p.soft", {}, "The token opens a session of eight hours and is not kept. Signing out ends it.")))]);
	(asksTenant ? whose : input).focus();
}

// Which tenant an operator looks at, for when this tab is loaded again.
const remembered = "fleetstate.tenant";

async function enter(token, of) {
	let opened = false;
	try {
		await open(token, of);
		opened = true;
		enterAs(await open("", of), of);	// as every question from now on: by the cookie
	} catch (error) {
		if (error.status === 401 && opened)
			return signIn("This browser keeps no session here: it does so over https, or from the collector's own computer.");
		if (error.type === "tenant-required")
			return place().parameters.tenant && !of ? enter(token, place().parameters.tenant) : signIn("This is an operator's token: which tenant?", token, true);
		if (error.status === 404) {
			history.replaceState(null, "", "#/");
			return signIn("There is no such tenant.", token, true);
		}
		return signIn(error.status === 401 ? "That token is not known, or no longer good." : `${error.message} ${advice(error)}`, error.status === 401 ? "" : token, of !== "");
	}
}

function become(told, of) {
	tenant = told.tenant_name || told.tenant;
	tenantId = told.tenant;
	last = null;
	nameTenant(tenantId);
	sessionStorage.setItem(remembered, of);
	frame(true);
}

function enterAs(told, of) {
	become(told, of);
	look(true);
	listen();
}

// Whoever is signed in already goes on.
async function begin(of = sessionStorage.getItem(remembered) ?? "") {
	try {
		enterAs(await open("", of), of);
	} catch (error) {
		if (error.type === "tenant-required" && !of && place().parameters.tenant)
			return begin(place().parameters.tenant);
		signIn(error.status === 401 || error.type === "tenant-required" ? "" : `${error.message} ${advice(error)}`);
	}
}

async function leave() {
	await close();
	sessionStorage.removeItem(remembered);
	history.replaceState(null, "", "#/");	// whoever comes next may be another's
	signIn("");
}

history.scrollRestoration = "manual";
let scrolled = 0;
addEventListener("scroll", () => {
	clearTimeout(scrolled);
	scrolled = setTimeout(() => history.replaceState({ y: scrollY }, ""), 200);
}, { passive: true });
addEventListener("hashchange", () => {
	clearTimeout(scrolled);
	if (tenant !== null)
		look(true);
});
addEventListener("keydown", (event) => {
	if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || tenant === null || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName))
		return;
	event.preventDefault();
	if ($("f-q")) 
		$("f-q").focus();
	else {
		searching = true;
		location.hash = "#/devices";
	}
});
document.addEventListener("visibilitychange", () => {
	clearTimeout(timer);
	if (document.hidden)
		stream?.abort();
	else if (tenant !== null) {
		look(false);
		listen();
	}
});
document.querySelector(".skip").addEventListener("click", (event) => {
	event.preventDefault();	// it is no place
	$("main").focus();
});
addEventListener("acted", () => tenant !== null && look(false));
setInterval(() => tenant !== null && tell(), 1000);
$("leave").addEventListener("click", leave);
begin();
