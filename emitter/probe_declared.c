#include "emitter/probes.h"

void
probe_declared(struct probe *p)
{
	for (unsigned fact = FACT_DECLARED_FACTS; fact <= FACT_DECLARED_FACTS; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
