// The module "aici". Its names can be used without an import too; a program's own names come before them.
import { host } from "aici/host";
import * as text from "aici/text";
import * as sequence from "aici/sequence";
import * as generation from "aici/gen";

export {
    $, Branch, FixedTokens, Label, MidProcessResult, NextToken, Splice, StopToken, TokenSet, allTokens, fixed, fork, forkSupported,
    getPrompt, getPromptLen, getTokens, start, stop, test,
} from "aici/sequence";
export {
    ChooseConstraint, ConstrainedToken, Constraint, appendVar, checkVar, checkVars, gen, genTokens, getVar, setVar, waitVars,
} from "aici/gen";
export {
    AssertionError, assert, detokenize, eosToken, getConfig, inspect, log, setLogLevel, tokenRepr, tokenize, tokensRepr,
} from "aici/text";
/** The controller's argument. */
export function argument() { return host.argument(); }
export const helpers = {
    regex_constraint: generation.regexConstraint, cfg_constraint: generation.cfgConstraint, substr_constraint: generation.substrConstraint,
    FixedTokens: sequence.FixedTokens, StopToken: sequence.StopToken, panic: error => { throw error; },
};
Object.assign(globalThis, text, sequence, generation);
