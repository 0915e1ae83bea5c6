#include "emitter/probes.h"

void
probe_access(struct probe *p)
{
	for (unsigned fact = FACT_ACCESS_ACCOUNTS; fact <= FACT_ACCESS_AUTHORISED_KEYS; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
