//! The list of phrases, as data.
//!
//! A phrase is a sequence of words. `a|b` is either word, and `*` is one to five words of the same
//! sentence. Upper and lower case are equal, inline code counts as one word, and `nobody` also
//! matches `nobody's`. This file quotes bad text on purpose, so it is not part of the scope.

/// A phrase that betrays a translated sentence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phrase {
    /// The words to find.
    pub(super) words: &'static str,
    /// What to write: the end of the sentence that begins with "use".
    pub(super) instead: &'static str,
    /// Longer phrases that contain this one and are good English.
    pub(super) unless: &'static [&'static str],
}

const fn phrase(words: &'static str, instead: &'static str) -> Phrase {
    Phrase { words, instead, unless: &[] }
}

const fn unless(words: &'static str, instead: &'static str, unless: &'static [&'static str]) -> Phrase {
    Phrase { words, instead, unless }
}

/// Every phrase. Add each one that is found, together with its replacement.
pub(super) const PHRASES: &[Phrase] = &[
    // The noun is negated where English negates the verb.
    unless(
        "is|are|was|were no",
        "\"is not a ...\"",
        &[
            "there is|are|was|were no",
            "is|are|was|were no longer|more|less|better|worse|larger|smaller|later|earlier|different",
            "is|are|was|were no exception|substitute|guarantee|accident|coincidence|surprise",
        ],
    ),
    unless(
        "is|are|was|were none",
        "\"is not a ...\", \"invalid ...\" or \"is not set\"",
        &["there is|are|was|were none"],
    ),
    phrase("makes|make no", "\"is not a valid ...\" or the error itself"),
    phrase("asks|ask no", "\"does not use\" or \"does not need\""),
    // Things are found, missing, set, taken or invalid.
    phrase("be there", "\"exist\" or \"be present\""),
    phrase("not there", "\"missing\", \"not found\" or \"not implemented\""),
    phrase("is|are|was|were there already", "\"already exists\""),
    phrase("if|unless|when|where it is there", "\"exists\""),
    phrase("stands|stand twice", "\"duplicate\""),
    unless("stands|stand in", "\"appears in\" or \"is in\"", &["stands|stand in for|front"]),
    phrase("stands|stand beside|between|behind|under|there", "\"is\", \"follows\" or \"appears\""),
    phrase("beside it|them stand|stands", "\"there are also\""),
    phrase("leads|lead nowhere", "\"has no route\" or \"resolves nothing\""),
    phrase("missing still", "\"still missing\""),
    phrase("to elsewhere", "\"to another host\" or the place itself"),
    phrase("be had", "\"be available\", \"be opened\" or \"be obtained\""),
    // Programs print, report, trust, resolve, require and use.
    unless(
        "is|are|was|were told",
        "\"is notified\", \"receives\" or \"is reported\"",
        &["is|are|was|were told apart"],
    ),
    phrase("told otherwise", "\"by default\" or \"unless configured otherwise\""),
    phrase("unless|until|as told", "\"by default\" or \"as configured\""),
    phrase("is|are|was|were believed", "\"is trusted\""),
    phrase("is|are|was|were asked of", "\"is sent to\""),
    phrase("says|say so", "\"prints a warning\", \"reports it\" or \"shows it\""),
    phrase("says|say|said why", "\"prints the reason\""),
    phrase("the system said|says", "\"the system error\""),
    phrase("whose doing", "\"which side caused it\""),
    phrase("who answers", "the component that sends the response"),
    phrase("tells beforehand", "\"prints in advance\""),
    phrase("a warning tells", "\"a warning reports\""),
    phrase(
        "may|can|must think|believe|say|tell|ask|hold",
        "\"take\", \"report\", \"request\" or \"contain\"",
    ),
    phrase("speaks|speak|spoken tls|http|http/1.1|ssh", "\"uses\""),
    // The actor has a name.
    phrase("nobody", "the name of the actor, or the passive voice"),
    phrase("somebody", "the name of the actor"),
    phrase("everybody", "\"all users\", \"all clients\" or the name of the actor"),
    phrase("whoever", "the name of the actor: the client, the user, the agent"),
    phrase("those who", "the name of the actor"),
    // Idioms that English does not have.
    phrase("mended", "\"fixed\""),
    phrase("makes|make|made * void", "\"overrides\" or \"takes precedence over\""),
    phrase("by what became", "the outcome itself"),
    phrase("came|come|comes|became|become of", "\"the result\" or \"happened\""),
    phrase("walks|walk back", "\"rolls back\""),
    phrase("walk|walks|walked through a trait", "\"execute\""),
    phrase("by hand of", "\"by means of\" or \"with\""),
    phrase("anew", "\"again\", \"for each ...\" or \"from scratch\""),
    phrase("belong|belongs into", "\"belongs in\""),
    phrase("sees|see to it", "\"ensures\""),
    phrase("sees to", "\"ensures\" or \"installs\""),
    unless("as ever", "\"as usual\" or nothing", &["as * as ever"]),
    unless("as any other", "\"like any other\"", &["as * as any other"]),
    unless("are|is the end", "\"closes the connection\" or \"is the timeout\"", &["are|is the end of"]),
    phrase("without a word", "\"silently\""),
    phrase("lack of which", "\"without it\""),
    phrase("of today", "\"current\""),
    phrase("from the signal on", "\"after the signal\""),
    phrase("in there", "\"inside the container\" or the place itself"),
    phrase("as it was understood", "\"as parsed\""),
    phrase("as it is understood", "\"as parsed\""),
    phrase("answer's|answers' head|heads", "\"the response headers\""),
    phrase("answer's|answers' content", "\"response body\""),
    // Afterthoughts.
    phrase(
        "and so is|are|does|do the|a|an|its|their|that|those|this|each",
        "a sentence of its own, or \"also\"",
    ),
    unless("but for", "\"except for\"", &["not * but for", "not but for"]),
    phrase("the last of which", "a sentence of its own"),
];
