// The analyst's page: a token, then one view at a time, drawn anew every few seconds while it is looked at.

import { Problem, get, setToken } from "./api.js";
import { el } from "./dom.js";
import * as fleet from "./fleet.js";
import * as devices from "./devices.js";
import * as device from "./device.js";

const every = 5000;	// milliseconds between two looks
const $ = (id) => document.getElementById(id);

// A view loads data and draws it: load(parameters, path, signal) -> data, draw(data, parameters, path) -> nodes.
const views = [
	{ pattern: /^\/$/, nav: "#/", view: fleet },
	{ pattern: /^\/devices$/, nav: "#/devices", view: devices },
	{ pattern: /^\/devices\/([0-9a-f]{34})(?:\/(\w+))?$/, nav: "#/devices", view: device },
];

let drawn = "";		// what is on the screen, to leave it alone while nothing changed
let updated = 0;	// when the last answer came
let problem = "";
let timer = 0;
let pending = null;
let signedIn = false;

function place() {
	const [path, query] = (location.hash.slice(1) || "/").split("?");
	return { path, parameters: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

async function look(fresh) {
	clearTimeout(timer);
	pending?.abort();
	const mine = pending = new AbortController();
	const { path, parameters } = place();
	const row = views.find(({ pattern }) => pattern.test(path)) ?? views[0];
	for (const link of $("nav").children)
		link.getAttribute("href") === row.nav ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
	try {
		const match = row.pattern.exec(path) ?? [];
		const data = await row.view.load(parameters, match, mine.signal);
		if (mine !== pending)
			return;
		problem = "";
		updated = Date.now();
		const key = location.hash + JSON.stringify(data);
		// Whoever types or has opened a list is not disturbed; times that say "ago" are drawn anew all the same.
		if (fresh || key !== drawn || !$("main").contains(document.activeElement) || document.activeElement === $("main"))
			show(row.view.draw(data, parameters, match));
		drawn = key;
	} catch (error) {
		if (error.name === "AbortError")
			return;
		if (error instanceof Problem && error.status === 401)
			return signIn("That token is not known, or no longer good.");
		problem = error.message;
		if (fresh)
			show([el("p.error", { role: "alert" }, problem)]);
	}
	tell();
	timer = setTimeout(() => look(false), every);
}

function show(nodes) {
	const focus = document.activeElement?.id;
	$("main").replaceChildren(...nodes);
	if (focus && $("main").querySelector(`#${CSS.escape(focus)}`))
		$(focus).focus();
}

function tell() {
	const seconds = Math.round((Date.now() - updated) / 1000);
	const late = problem !== "" || seconds > 3 * every / 1000;
	$("live").textContent = problem ? `${problem} Shown: ${seconds} s old` : `live, ${seconds} s old`;
	$("live").classList.toggle("late", late);
}

function signIn(error) {
	signedIn = false;
	clearTimeout(timer);
	for (const id of ["nav", "live", "leave"])
		$(id).hidden = true;
	$("tenant").textContent = "";
	const input = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "fst_…" });
	show([el("section.card.signin", {},
		el("h1", {}, "Is the fleet still secure?"),
		el("form", { onsubmit: (event) => { event.preventDefault(); enter(input.value.trim()); } },
			el("label", { for: "token" }, "Access token", input),
			error && el("p.error", { role: "alert" }, error),
			el("button.main", { type: "submit" }, "Show the fleet"),
			el("p.soft", {}, "The token stays in this tab's memory and is forgotten when the page is closed or loaded again."))) ]);
	input.focus();
}

async function enter(token) {
	setToken(token);
	try {
		$("tenant").textContent = (await get("/v1/fleet")).tenant ?? "";
	} catch (error) {
		return signIn(error.status === 401 ? "That token is not known, or no longer good." : error.message);
	}
	signedIn = true;
	for (const id of ["nav", "live", "leave"])
		$(id).hidden = false;
	look(true);
}

addEventListener("hashchange", () => signedIn && look(true));
document.addEventListener("visibilitychange", () => {
	clearTimeout(timer);
	if (!document.hidden && signedIn)
		look(false);
});
setInterval(() => signedIn && tell(), 1000);
$("leave").addEventListener("click", () => { setToken(""); signIn(""); });
signIn("");
