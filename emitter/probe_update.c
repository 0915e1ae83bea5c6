#include "emitter/probes.h"

void
probe_update(struct probe *p)
{
	for (unsigned fact = FACT_UPDATE_MECHANISMS; fact <= FACT_UPDATE_NOTIFICATION; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
