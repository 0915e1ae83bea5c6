#include "emitter/probes.h"

void
probe_self(struct probe *p)
{
	facts_set_text(p->facts, FACT_EMITTER_VERSION, FLEETSTATE_VERSION);
	facts_set_text(p->facts, FACT_EMITTER_PRIVILEGES, source_denied(p->source) ? "reduced" : "full");
	facts_unknown(p->facts, FACT_EMITTER_SIGNING_KEY, "no signing key is open");
	facts_unknown(p->facts, FACT_EMITTER_RECEIPTS_AHEAD, "no receipts are heard");
	for (unsigned fact = FACT_EMITTER_USER; fact <= FACT_EMITTER_TRANSPORT; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
