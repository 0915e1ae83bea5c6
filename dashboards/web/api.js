// The collector's HTTP interface. The token lives in this module's memory only: a reload forgets it.

const patience = 15000;	// milliseconds until an answer is given up

let token = "";
let tenant = "";
let skew = 0;	// the collector's clock less this computer's, in milliseconds

export class Problem extends Error {
	constructor(status, type, message) {
		super(message);
		this.status = status;
		this.type = type;
	}
}

// An operator's token is good for any tenant, so each question names one.
export function identify(newToken, ofTenant) {
	token = newToken;
	tenant = ofTenant;
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
	for (const [key, value] of Object.entries({ ...parameters, tenant }))
		if (value)
			query.set(key, value);
	return query.size ? `${path}?${query}` : path;
}

// The token travels in a header, never in an address: those end in logs and histories.
async function send(path, parameters, signal, body) {
	const headers = { Authorization: `Bearer ${token}` };
	if (body !== undefined)
		headers["Content-Type"] = "application/json";
	let answer;
	try {
		answer = await fetch(address(path, parameters), { method: body === undefined ? "GET" : "POST", headers, cache: "no-store", credentials: "omit", signal,
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

function ask(path, parameters, signal, body) {
	const limit = AbortSignal.timeout(patience);
	return send(path, parameters, signal ? AbortSignal.any([signal, limit]) : limit, body);
}

// Calls `tell` with the id of each server-sent event, until the stream ends. EventSource can't send a header.
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
export const post = async (path, body) => (await ask(path, {}, undefined, body)).json();
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
