// The collector's HTTP interface. A token opens a session and is forgotten; the session's cookie is the browser's, and no script can read it.

const patience = 15000;	// milliseconds until an answer is given up

let tenant = "";
let csrf = "";	// what shows that a change comes from this page
let skew = 0;	// the collector's clock less this computer's, in milliseconds

export class Problem extends Error {
	constructor(status, type, message) {
		super(message);
		this.status = status;
		this.type = type;
	}
}


export const now = () => Date.now() + skew;

// Ages are reckoned by the collector's clock: a wrong one here must not make a silent device look fresh.
function noteTime(answer) {
	const difference = Date.parse(answer.headers.get("Date")) - Date.now();
	if (Math.abs(difference - skew) > 2000)
		skew = difference;
}

function address(path, parameters) {
	const query = new URLSearchParams();
	for (const [key, value] of Object.entries({ tenant, ...parameters }))
		if (value)
			query.set(key, value);
	return query.size ? `${path}?${query}` : path;
}

// For a link that the browser follows by itself, with the session's cookie.
export const link = address;

async function send(path, parameters, signal, method = "GET", body = undefined, more = {}) {
	const headers = { ...more };
	if (method !== "GET")
		headers["Fleetstate-CSRF"] = csrf;
	if (body !== undefined)
		headers["Content-Type"] = "application/json";
	let answer;
	try {
		answer = await fetch(address(path, parameters), { method, headers, cache: "no-store", credentials: "same-origin", signal,
			body: body === undefined ? undefined : JSON.stringify(body) });
	} catch (error) {
		if (error.name === "AbortError")
			throw error;
		throw new Problem(0, "", "The collector does not answer.");
	}
	noteTime(answer);
	if (answer.ok)
		return answer;
	const problem = await answer.json().catch(() => ({}));
	throw new Problem(answer.status, (problem.type ?? "").split(":").pop(), problem.detail ?? problem.title ?? answer.statusText);
}

function ask(path, parameters, signal, ...rest) {
	const limit = AbortSignal.timeout(patience);
	return send(path, parameters, signal ? AbortSignal.any([signal, limit]) : limit, ...rest);
}

// Begins a session with a token, or without one goes on with the one that there is. Resolves to who is signed in. A token travels in a header, never in
// an address: those end in logs and histories. An operator is of no tenant, so each question names one.
export async function open(token, ofTenant, signal) {
	const more = token ? { Authorization: `Bearer ${token}` } : {};
	const told = await (await ask("/v1/session", { tenant: ofTenant }, signal, token ? "POST" : "GET", undefined, more)).json();
	tenant = ofTenant;
	csrf = told.csrf ?? "";
	return told;
}

export function close() {
	return ask("/v1/session", {}, undefined, "DELETE").catch(() => undefined);	// it ends by itself, too
}

// Calls `tell` with the id of each server-sent event, until the stream ends. EventSource does not say why it could not begin.
export async function follow(path, parameters, signal, tell) {
	const answer = await send(path, parameters, signal);
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	let text = "";
	for (;;) {
		const { done, value } = await reader.read();
		if (done)
			return;
		const blocks = (text + value).split("\n\n");
		text = blocks.pop();
		for (const block of blocks) {
			const id = /^id: (\d+)$/m.exec(block);
			if (id)
				tell(id[1], /^data: /m.test(block));
		}
	}
}

export const get = async (path, parameters, signal) => (await ask(path, parameters, signal)).json();
// Another tab may have begun another session.
export async function post(path, body) {
	const change = () => ask(path, {}, undefined, "POST", body);
	const answer = await change().catch(async (error) => {
		if (error.type !== "forged")
			throw error;
		await open("", tenant);
		return change();
	});
	return answer.json();
}
export const download = async (path) => (await ask(path)).blob();

// What of the collector does not work, as one line; empty when all does. Asked without a token.
export async function trouble(signal) {
	const answer = await fetch("/readyz", { cache: "no-store", credentials: "omit", signal }).catch((error) => {
		if (error.name === "AbortError")
			throw error;
	});
	const { checks = [] } = await answer?.json().catch(() => ({})) ?? {};
	return checks.filter((check) => !check.ready).map(({ name, why }) => `${name} (${why})`).join(", ");
}
