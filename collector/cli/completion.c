/* What a shell completes: the words of both tables, and what can stand behind an option. */
#include <stdio.h>
#include <string.h>

#include "collector/cli/cli.h"
#include "collector/cli/wish.h"

/* bash takes a word apart where there is one of :=@, as in a URL, and gives what stands behind the last one to be completed. */
static const char head[] =
	"# bash completion of fleetstate: made by `fleetstate completion bash`.\n"
	"_fleetstate() {\n"
	"\tlocal all=() words=() verbs= options= one= some= part joins= n i\n"
	"\tfor ((i = 0; i <= COMP_CWORD; i++)); do\n"
	"\t\tpart=${COMP_WORDS[i]}\n"
	"\t\tif ((i > 0)) && [[ -n $part && (-n $joins || -z ${part//[:=@]/}) ]]; then\n"
	"\t\t\tall[${#all[@]}-1]+=$part\n"
	"\t\telse\n"
	"\t\t\tall+=(\"$part\")\n"
	"\t\tfi\n"
	"\t\tjoins=\n"
	"\t\t[[ -n $part && -z ${part//[:=@]/} ]] && joins=1\n"
	"\tdone\n"
	"\tn=$((${#all[@]} - 1))\n"
	"\tlocal cur=${all[n]} prev=${all[n-1]}\n"
	"\t[[ $cur == --*=* ]] && prev=${cur%%=*} cur=${cur#*=}\n"
	"\tfor ((i = 1; i < n; i++)); do\n"
	"\t\tcase ${all[i]} in\n"
	"\t\t--database | --url | --token | --token-file | --ca | --certificate | --key) ((i++)) ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*) words+=(\"${all[i]}\") ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tlocal noun=${words[0]-} verb=${words[1]-}\n";
static const char tail[] =
	"\tCOMPREPLY=()\n"
	"\tif ((${#words[@]} == 0)); then\n"
	"\t\tcase $prev in --database | --url | --token | --token-file | --ca | --certificate | --key) "
	"return ;; esac\n"
	"\t\tCOMPREPLY=($(compgen -W \"$nouns --database --url --token --token-file --ca "
	"--certificate --key --help --version\" -- \"$cur\"))\n"
	"\telif [[ -n $one ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$one\" -- \"$cur\"))\n"
	"\telif [[ -n $some ]]; then\n"
	"\t\t[[ $cur == *,* ]] && part=${cur%,*}, || part=\n"
	"\t\tCOMPREPLY=($(compgen -P \"$part\" -W \"$some\" -- \"${cur##*,}\"))\n"
	"\telif ((${#words[@]} == 1)) && [[ -n $verbs && $cur != -* ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\" | sort -u))\n"
	"\telif [[ $cur == -* ]]; then\n"
	"\t\tCOMPREPLY=($(compgen -W \"$options --help\" -- \"$cur\" | sort -u))\n"
	"\tfi\n"
	"}\n"
	"complete -o default -F _fleetstate fleetstate\n";
/* zsh takes bash's. */
static const char zsh[] = "#compdef fleetstate\n"
			  "autoload -U +X bashcompinit && bashcompinit\n"
			  "eval \"$(fleetstate completion bash)\"\n";

static bool
is_first(size_t i, const char *noun)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	for (size_t k = 0; k < i && k < n; k++)
		if (strcmp(commands[k].noun, noun) == 0)
			return false;
	for (size_t k = n; k < i; k++)
		if (strcmp(operations[k - n].noun, noun) == 0)
			return false;
	return true;
}

/* The rows of both tables, one after the other. */
static const char *
noun_at(size_t i)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	return i < n ? commands[i].noun : operations[i - n].noun;
}

static const char *
verb_at(size_t i)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	return i < n ? commands[i].verb : operations[i - n].verb;
}

static void
print_option(const char *name, const char *values, bool several)
{
	(void)values;
	(void)several;
	printf(" --%s", name);
}

static void
print_values(const char *name, const char *values, bool several)
{
	if (values != NULL)
		printf("\t\t--%s) %s=\"%s\" ;;\n", name, several ? "some" : "one", values);
}

/* What begins with two hyphens in the command's own help; its values are words with bars between, in lower case. */
static void
list_options(const char *arguments, void (*tell)(const char *name, const char *values, bool several))
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz-";

	for (const char *at = strstr(arguments, "--"); at != NULL; at = strstr(at, "--")) {
		int len = (int)strspn(at += 2, letters);
		char name[32], values[128];
		const char *first = at + len + (at[len] == ' ');
		size_t n = strspn(first, "abcdefghijklmnopqrstuvwxyz|");

		snprintf(name, sizeof name, "%.*s", len, at);
		snprintf(values, sizeof values, "%.*s", (int)n, first);
		for (char *bar = values; (bar = strchr(bar, '|')) != NULL;)
			*bar = ' ';
		tell(name, strchr(values, ' ') != NULL ? values : NULL, false);
	}
}

static void
tell_options(size_t i, void (*tell)(const char *name, const char *values, bool several))
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	if (i < n)
		list_options(commands[i].arguments, tell);
	else
		wish_list_options(&operations[i - n], tell);
}

static void
print_bash(size_t rows)
{
	fputs(head, stdout);
	fputs("\tlocal nouns=\"", stdout);
	for (size_t i = 0; i < rows; i++)
		if (is_first(i, noun_at(i)))
			printf("%s%s", i == 0 ? "" : " ", noun_at(i));
	fputs("\"\n\tcase $noun in\n", stdout);
	for (size_t i = 0; i < rows; i++) {
		if (!is_first(i, noun_at(i)))
			continue;
		printf("\t%s) verbs=\"", noun_at(i));
		for (size_t k = i; k < rows; k++)
			if (strcmp(noun_at(k), noun_at(i)) == 0 && verb_at(k) != NULL)
				printf("%s ", verb_at(k));
		fputs("\" ;;\n", stdout);
	}
	fputs("\tesac\n", stdout);
	for (size_t i = 0; i < rows; i++) {
		printf("\tif [[ $noun == %s", noun_at(i));
		if (verb_at(i) != NULL)
			printf(" && $verb == %s", verb_at(i));
		fputs(" ]]; then\n\t\toptions+=\"", stdout);
		tell_options(i, print_option);
		fputs("\"\n\t\tcase $prev in\n", stdout);
		tell_options(i, print_values);
		fputs("\t\tesac\n\tfi\n", stdout);
	}
	fputs(tail, stdout);
}

int
print_completion(const struct command *command, int argc, char **argv)
{
	size_t n;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	cli_check_word(argv[1], "bash|zsh", "the shell");
	(void)cli_commands(&n);
	if (strcmp(argv[1], "bash") == 0)
		print_bash(n + operations_n);
	else
		fputs(zsh, stdout);
	return CLI_YES;
}
