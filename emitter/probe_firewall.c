#include "emitter/probes.h"

void
probe_firewall(struct probe *p)
{
	for (unsigned fact = FACT_INTERFACES_FIREWALL; fact <= FACT_INTERFACES_FIREWALL_INPUT; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
