#include "emitter/probes.h"

void
probe_updaters(struct probe *p)
{
	facts_unknown(p->facts, FACT_UPDATE_MECHANISMS, "no probe looks at this yet");
}

void
probe_update(struct probe *p)
{
	for (unsigned fact = FACT_UPDATE_CHECKED; fact <= FACT_UPDATE_NOTIFICATION; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
