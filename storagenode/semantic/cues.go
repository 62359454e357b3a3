package semantic

import "strings"

// maxCueWords is how many words the longest cue has.
const maxCueWords = 4

// cue is what a phrase speaks for.
type cue struct {
	name   string
	weight int
}

// cueRow is a line of the table: phrases, separated by "|", each of which speaks for a name.
type cueRow struct {
	name    string
	weight  int
	phrases string
}

// cuesByPhrase is cueTable by phrase.
var cuesByPhrase = byPhrase(cueTable)

// cueTable is the rules: what speaks for a type, a domain and a causal relation, and how strongly. A phrase of a causal
// relation speaks for the type causal as well.
var cueTable = []cueRow{
	{"negation", 3, "not|never|no|none|nothing|nobody|neither|nor|cannot|without|no longer"},
	{"condition", 3, "if|unless|provided that|as long as|in case|in case of|depends on|depending on|assuming|assuming that|whenever|otherwise"},
	{"rule", 3, "must|must not|shall|shall not|should|should not|may not|has to|have to|is required|are required|required to|mandatory|prohibited|" +
		"forbidden|obliged|is allowed to|are allowed to|it is illegal"},
	{"definitional", 3, "is defined as|are defined as|defined as|refers to|is known as|are known as|also called|stands for|means|is the name of"},
	{"definitional", 2, "is a|is an|is a kind of|is a type of|is one of|are a|was a|was an"},
	{"temporal", 2, "before|after|during|until|since|yesterday|today|tomorrow|afterwards|previously|subsequently|meanwhile|then|later|earlier|daily|" +
		"weekly|monthly|annually|century|decade"},
	{"event", 2, "happened|occurred|took place|began|started|ended|launched|crashed|failed|signed|died|was born|founded|elected|invaded|opened|closed|" +
		"arrived|left|won|lost|discovered|invented|announced|registered|released"},
	{"quantitative", 2, "percent|per cent|average|total|ratio|rate|at least|at most|more than|less than|twice|half|amounts to|number of|dozens of|" +
		"kilometres|kilometers|metres|meters|kilograms|grams|litres|liters|degrees|dollars|euros"},

	{"direct", 3, "cause|causes|caused|caused by|because|because of|due to|leads to|led to|lead to|results in|resulted in|result of|brings about|" +
		"therefore|thus|hence|as a result|consequently|triggers|triggered"},
	{"indirect", 3, "contributes to|contributed to|contribute to|influences|influenced|may cause|can cause|may lead to|can lead to|plays a role in|indirectly"},
	{"enabling", 3, "enables|enabled|enable|allows|allowed|makes possible|makes it possible|facilitates|facilitated|permits|lets"},
	{"preventing", 3, "prevents|prevented|prevent|inhibits|inhibited|blocks|blocked|stops|stopped|avoids|suppresses|protects against|hinders|reduces the risk"},
	{"correlation", 3, "correlates with|correlated with|is associated with|are associated with|associated with|is linked to|are linked to|coincides with"},

	{"medical", 1, "patient|patients|disease|diseases|diagnosis|treatment|symptom|symptoms|drug|drugs|medicine|medical|doctor|physician|hospital|clinical|" +
		"therapy|vaccine|infection|surgery|blood|cancer|fever|virus|health|dose|pain|illness"},
	{"legal", 1, "law|laws|legal|court|courts|contract|statute|litigation|attorney|lawyer|judge|jury|plaintiff|defendant|treaty|crime|criminal|illegal|" +
		"liability|verdict|legislation|regulation|clause|lawsuit"},
	{"financial", 1, "bank|banks|money|payment|loan|loans|credit|debt|interest|stock|stocks|bond|bonds|dividend|invest|investment|investor|currency|tax|taxes|" +
		"asset|assets|budget|financial|inflation|price|prices|account"},
	{"technical", 1, "software|computer|computers|code|database|server|servers|network|api|algorithm|program|protocol|cpu|disk|memory|deploy|compiler|system|" +
		"encryption|internet|node|cluster|machine|engine"},
	{"scientific", 1, "science|scientific|experiment|hypothesis|theory|research|physics|chemistry|chemical|biology|biological|atom|molecule|species|genus|cell|cells|" +
		"energy|particle|quantum|planet|organism|plant|plants|evolution|element|gene|genes"},
	{"business", 1, "business|company|companies|customer|customers|market|markets|revenue|sales|profit|strategy|product|products|employee|employees|manager|" +
		"enterprise|supplier|corporation|merger|brand|startup"},
}

// relations are the names whose cues speak for the type causal too.
var relations = map[string]bool{"direct": true, "indirect": true, "enabling": true, "preventing": true, "correlation": true}

func byPhrase(rows []cueRow) map[string][]cue {
	all := map[string][]cue{}
	for _, row := range rows {
		for phrase := range strings.SplitSeq(row.phrases, "|") {
			all[phrase] = append(all[phrase], cue{row.name, row.weight})
			if relations[row.name] {
				all[phrase] = append(all[phrase], cue{"causal", row.weight})
			}
		}
	}
	return all
}

// set is words as keys.
func set(words string) map[string]bool {
	s := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		s[w] = true
	}
	return s
}

// The words that a statement is taken from (statement.go).
var (
	negators = set("not never no none nothing nobody neither nor cannot without")
	stating  = set("is are was were be been has have had equals equal weighs costs contains")
	small    = set("a an the this that these those it its of to in on at for by with and or as from there do does did will would can could may " +
		"very quite really always all any also percent")
	opposites = pairs("true false|safe unsafe|safe dangerous|legal illegal|possible impossible|increase decrease|increases decreases|increased decreased|" +
		"rises falls|rise fall|improves worsens|allowed forbidden|permitted prohibited|allows forbids|enable disable|enabled disabled|enables prevents|" +
		"alive dead|open closed|present absent|guilty innocent|effective ineffective|hot cold|high low|higher lower|above below|accept reject|" +
		"accepted rejected|accepts rejects|success failure|succeeds fails|succeeded failed|positive negative|harmful harmless|stable unstable|" +
		"reliable unreliable|valid invalid|necessary unnecessary|finite infinite|before after|more less|most least|good bad|big small|large small")
)

// opposite is one word of a pair; the second turns a statement around.
type opposite struct {
	first  string // of the pair
	second bool
}

func pairs(table string) map[string]opposite {
	all := map[string]opposite{}
	for pair := range strings.SplitSeq(table, "|") {
		first, second, _ := strings.Cut(pair, " ")
		if _, there := all[first]; !there {
			all[first] = opposite{first, false}
		}
		if _, there := all[second]; !there {
			all[second] = opposite{all[first].first, true}
		}
	}
	return all
}
