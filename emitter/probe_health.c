#include "emitter/probes.h"

void
probe_health(struct probe *p)
{
	for (unsigned fact = FACT_HEALTH_FAILED_UNITS; fact <= FACT_HEALTH_OOM_KILLS; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
