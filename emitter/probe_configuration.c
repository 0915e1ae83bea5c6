#include "emitter/probes.h"

void
probe_configuration(struct probe *p)
{
	for (unsigned fact = FACT_CONFIGURATION_FILES; fact <= FACT_CONFIGURATION_BASELINE_SIGNED; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}

void
probe_restore(struct probe *p)
{
	for (unsigned fact = FACT_CONFIGURATION_WRITABLE; fact <= FACT_CONFIGURATION_RESTORE; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
