#include "emitter/probes.h"

void
probe_ports(struct probe *p)
{
	for (unsigned fact = FACT_INTERFACES_SERIAL_CONSOLES; fact <= FACT_INTERFACES_RADIOS; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
