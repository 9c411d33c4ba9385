//! Words that keep their final dot, by what they mean to the end of a sentence.
//!
//! Each list is the inside of an alternation and is written without the dot.

/// Months and days.
pub(super) const CALENDAR: &str =
    "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|Mon|Tue|Tues|Wed|Thu|Thurs|Fri";
/// States of the USA.
pub(super) const STATE: &str = concat!(
    "Ala|Ariz|[A]z|[A]rk|Calif|Colo|Conn|Ct|Dak|[D]el|Fla|Ga|[I]ll|Ind|Kans?|Ky|[L]a|[M]ass|Md|Mich|Minn|[M]iss|Mo|Mont|",
    "Neb|Nev|Okla|[O]re|[P]a|Penn|Tenn|[T]ex|Va|Vt|[W]ash|Wisc?|Wyo"
);
/// Companies and institutions.
pub(super) const COMPANY: &str = "Inc|Cos?|Corp|Pp?t[ye]s?|Ltd|Plc|Rt|Bancorp|Bhd|Assn|Univ|Intl|Sys";
/// Companies, in the middle of a name.
pub(super) const COMPANY_INNER: &str = "Dept|Invt|Elec|Natl|M[ft]g";
/// Before numbers.
pub(super) const NUMBER: &str = "tel|est|ext|sq";
/// After names, and streets.
pub(super) const AFTER_NAME: &str = r"Jr|Sr|Bros|(?:Ed|Ph)\.D|Blvd|Rd|Esq";
/// Titles and ranks before names.
pub(super) const TITLE: &str = concat!(
    "Mr|Mrs|Ms|[M]iss|Drs?|Profs?|Sens?|Reps?|Attys?|Lt|Col|Gen|Messrs|Govs?|Adm|Rev|Maj|Sgt|Cpl|Pvt|Mt|Capt|",
    "Ste?|Ave|Pres|Lieut|Hon|Brig|Co?mdr|Pfc|Spc|Supts?|Det|Ens|Insp|Mlle|Mme|Msgr|Sfc"
);
/// Ends of lists, and a building.
pub(super) const LAST: &str = "etc|al|seq|Bldg";
/// Names that are shortened, and words of dictionaries.
pub(super) const INNER: &str = r"Adj|Adv|Alex|Assoc|Asst|Cie|Jos|Ph|Treas|Wm|a\.k\.a|cf|ft|vs";
/// What stands before a number alone.
pub(super) const CITATION: &str = "ca|figs?|prop|nos?|art|bldg|pp|op";
/// Endings of file names.
pub(super) const FILE_ENDING: &str = concat!(
    "bat|bmp|c|class|cgi|cpp|dll|doc|docx|exe|gif|gz|h|htm|html|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|",
    "ppt|ps|py|sql|tar|txt|wav|x|xml|zip"
);
/// Words that open a sentence behind an acronym, which then keeps its dot and lends it to the sentence.
pub(super) const SENTENCE_OPENER: &str = concat!(
    "[A]|[A]bout|[A]ccording|[A]dditionally|[A]fter|[A]n|[A]s|[A]t|[B]ut|[E]arlier|[H]e|[H]er|[H]ere|[H]owever|[I]f|[I]n|[I]t|[L]ast|[M]any|",
    "[M]ore|[M]r\\.|[M]s\\.|[N]ow|[O]nce|[O]ne|[O]ther|[O]ur|[S]he|[S]ince|[S]o|[S]ome|[S]uch|[T]hat|[T]he|[T]heir|[T]hen|[T]here|[T]hese|[T]hey|",
    "[T]his|[W]e|[W]hen|[W]hile|[W]hat|[Y]et|[Y]ou"
);
