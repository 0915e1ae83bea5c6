#include "emitter/probes.h"

void
probe_integrity(struct probe *p)
{
	for (unsigned fact = FACT_INTEGRITY_IMA; fact <= FACT_INTEGRITY_PACKAGED_ALTERED; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
