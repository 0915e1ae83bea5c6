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

async function ask(path, parameters, signal) {
	const query = new URLSearchParams();
	for (const [key, value] of Object.entries({ ...parameters, tenant }))
		if (value)
			query.set(key, value);
	const limit = AbortSignal.timeout(patience);
	let answer;
	try {
		answer = await fetch(query.size ? `${path}?${query}` : path, { headers: { Authorization: `Bearer ${token}` }, cache: "no-store",
			credentials: "omit", signal: signal ? AbortSignal.any([signal, limit]) : limit });
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

export const get = async (path, parameters, signal) => (await ask(path, parameters, signal)).json();
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
