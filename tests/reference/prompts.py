"""What the programs that prompts come from make of them: cases for tests/prompt_grammar.rs.

Writes tests/reference/data/prompts/grammar.json. Run from the repository's root:

    python -m pip install lark dynamicprompts==0.31.0 compel==2.5.1
    A1111=PATH COMFYUI=PATH python tests/reference/prompts.py

The two paths are clones of stable-diffusion-webui 1.10 and of ComfyUI; their parsers are run as they
are, without their networks. Fixed prompts and random ones of the grammar's signs, from a seed.
"""
import ast
import json
import os
import pathlib
import random
import re
import sys
import tempfile
import types

STEPS = 6
SIGNS = ["a", "b", "(", ")", "[", "]", ":", "|", "0.5", "3", " ", "\\", " AND ", " BREAK ", ":1.2)", "é", ",", "\n", "[a:b:2]", "(c:"]
FIXED = [
    "", "normal text", "an (important) word", "(unbalanced", "\\(literal\\]", "(unnecessary)(parens)",
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", "a [b:3]", "a [b: 3]", "a [[[b]]:2]", "[(a:2):3]",
    "a [b : c : 1] d", "a[b:[c:d:2]:1]e", "a [unbalanced", "a [b:.5] c", "((a][:b:c [d:3]", "[a|(b:1.1)]", "[fe|]male",
    "[fe|||]male", "a [b:1.5] c", "[a::5]", "[a:b:0]", "[a:b:-1]", "[a:b:5e-1]", "[::2]", "[|]", "a|b [c:d:2]",
    "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]",
    "a cat AND a dog :0.5", "a cat :1.2", "AND", "a AND\nb\n : 2", "SANDY AND ANDY AND x:-.5", "a: b AND c: 1.", "(a: 1.2 ) b\\ c \\\\", "x [a:b] (c:-.5)",
    "a BREAK b", "BREAKFAST BREAK", "a:BREAK", "(time: noon)", "12:30)", "([a:b:2]:1.2)", "[[a:b:2]", "[a:b:0.5", "[a]:b:3]", "[(a:b:c):d:0.5]",
]
COMFYUI = [
    "", "a (b) c", "((a))", "(a:1.3)", "((a) b:0.5)", "(a:b)", "(:1.2)", "()", "a) (b)", ")(a)", "((a)", "\\(a\\) (b\\):1.4)", "[a:b:0.5] {c|d}",
    "(a:1.2)(b:0.8)", "(a (b:2):0.5)", "(a: 1.1 )", "(a:1e-1)",
]
COMPEL = [
    "", "a cat", "a cat++ dog", "a (big cat)1.3 dog", "a (big cat)++", "dog-- (cat)0.5", "(a (b)1.5 c)0.8", "\"two words\"++ x", "cat+dog a-b",
    "cat, dog++", "(cat).attend(1.2) x", "cat.attend(0.5)", "a (b, c. d)1.1 e.", "(a", "a) b", "\\(a\\) (b\\))1.2", "(x)+ y-", "((a)+ b)+", "()1.2 a", "a ()",
    "-5 +3", "a 1.5 b", "(cat)dog", "(cat) 1.5", "(a+ b)", "(a b-c)1.2", "\"\"++", "+", "a (+ b)", "(a=b)1.2",
]
MIXTURES = [
    '("a cat", "a dog").blend(1, 0.5)', '("a cat","a dog").and(1,0.5) rest', "(a, b).blend()", '("a cat++", "dog").add()', "a cat.swap(dog) x", 'a (red cat).swap("blue dog", s_end=0.3)',
    "(cat).blend(1)", '("a (b", "c").and()', '( "a" , "b" ) .and ( 1 , 2 )', '("a","b").blend(2,-1,no_normalize)', 'x ("a","b").and()', "cat,dog++ ,,x", '("", "a").and()', "((), b).and(2, 3)",
    '("a \\"q\\" b", c).and()', "(a b, c).and()", '("a, b. c","d").blend(1,1)', '("a++ b","d e-").blend(1,.5)', '("a","b").blend(1, 0.5,)', "a.swap(b c++) d", "a.swap() d", '"x y".swap(z)',
    '("a.swap(b)","c").and()', "cat.swap(dog", '("a","b").blend(no_normalize)', '(("a","b").blend(1,1), "c").and()', '("a","b").blend(0,0)', '("(a b)1.4 c", (d)0.5).and(0.7)', '("one", "two", (three)).blend(.2, .3, .5)',
    "(a b)1.2.swap(c) d++", '("a b"++, c).and()', '(cat, "dog on, a hill").add(1,-0.5)', '("a",).and()', "(a.b, c).and()",
]
TEMPLATES = [
    "{a|b|c}", "{ a | b }", "x {2$$a|b|c} y", "{1-2$$ and $$a|b|c}", "{0.5::a|2::b}", "{-2$$a|b|c}", "{2-$$a|b|c}", "__color__", "__a/animal__",
    "__animal__", "__a/*__", "__nope__ x", "{2$$__color__}", "{2$$, $$__a/*__}", "{|a}", "a | b {c|d}", "{2$$|$$a|b|c}", "{3$$a|b}", "{a{1|2}|b}",
    "{a (b:1.2)|c [d:e:0.5]}", "{1 ::a|b}", "{ 2$$a|b}", "{a,|b,}", "{2$$, $$a|, b}", "{0-1$$a|b}", "__{color|a/animal}__", "{0::a|b}", "{.5::a|b}",
    "{1e1::a|b}", "{2$$a|a|b}", "{1$$  $$a|b}", "{1:: a |b}", "{2::a|2::b|1::c}", "{2$$2::a|2::b|1::c}", "{2$$1::a|1::a|5::c}", "{__color__|__animal__} on {__color__|b}",
    "__nest__", "__nest__ {a|b} __nest__", "{3-2$$a|b|c}", "{1$$a}", "{0$$a|b}", "{~a|b}",
]
EMBEDDINGS = [["bad.safetensors", 3], ["sub/neg.pt", 9], ["v2.1.bin", 1]]
LISTS = {
    "color": ["red", "# no", "", "blue # deep", "green", "red", "{dark|light} pink"],
    "a/animal": ["cat", "dog", "owl __color__"],
    "a/bird": ["wren", "{2$$ and $$tit|jay|owl}"],
    "nest": ["__color__ __a/animal__", "plain"],
}


def taken(path, names, given):
    """Functions and classes of a file, without running the rest of it."""
    tree = ast.parse(pathlib.Path(path).read_text())
    kept = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__" or getattr(node, "name", None) in names]
    space = dict(given)
    exec(compile(ast.Module(body=kept, type_ignores=[]), str(path), "exec"), space)
    return types.SimpleNamespace(**{name: space[name] for name in names})


def a1111_parser():
    import importlib.util
    spec = importlib.util.spec_from_file_location("prompt_parser", pathlib.Path(os.environ["A1111"]) / "modules/prompt_parser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a1111(prompts):
    parser = a1111_parser()
    cases = []
    for prompt in prompts:
        try:
            pieces = parser.parse_prompt_attention(prompt)
        except ValueError:  # a weight such as 1.2.3
            continue
        if any(text == "BREAK" and weight < 0 and weight != -1 for text, weight in pieces):
            continue  # BREAK in brackets: Easel differs
        indices, texts, _ = parser.get_multicond_prompt_list([prompt])
        cases.append({
            "prompt": prompt,
            "pieces": pieces,
            "parts": [[texts[index], weight] for index, weight in indices[0]],
            "phases": parser.get_learned_conditioning_prompt_schedules([prompt], STEPS)[0],
        })
    return cases


def comfyui(prompts):
    names = ["parse_parentheses", "token_weights", "escape_important", "unescape_important"]
    code = taken(pathlib.Path(os.environ["COMFYUI"]) / "comfy/sd1_clip.py", names, {})
    read = lambda prompt: [[code.unescape_important(text), weight] for text, weight in code.token_weights(code.escape_important(prompt), 1.0)]
    return [{"prompt": prompt, "pieces": read(prompt)} for prompt in prompts]


def compel(prompts):
    from compel.prompt_parser import FlattenedPrompt, PromptParser
    cases = []
    for prompt in prompts:
        try:
            parts = PromptParser().parse_conjunction(prompt).prompts
        except Exception:
            continue
        if len(parts) == 1 and isinstance(parts[0], FlattenedPrompt) and not parts[0].wants_cross_attention_control:
            cases.append({"prompt": prompt, "pieces": [[piece.text, piece.weight] for piece in parts[0].children]})
    return cases


def compel_mixtures(prompts):
    """Prompts joined, with weights, each of prompts blended, with shares; of a swap the words before it."""
    from compel.prompt_parser import Blend, CrossAttentionControlSubstitute, PromptParser
    def pieces(flat):
        words = []
        for part in flat.children:
            words += part.original if isinstance(part, CrossAttentionControlSubstitute) else [part]
        return [[piece.text, piece.weight] for piece in words]
    cases = []
    for prompt in prompts:
        try:
            read = PromptParser().parse_conjunction(prompt)
        except Exception:
            continue
        joined = []
        for part, weight in zip(read.prompts, read.weights):
            shares = part.weights if isinstance(part, Blend) else [1.0]
            total = sum(shares) if isinstance(part, Blend) and part.normalize_weights else 1.0
            if total == 0:
                break
            joined.append([weight, [[share / total, pieces(flat)] for flat, share in zip(part.prompts if isinstance(part, Blend) else [part], shares)]])
        else:
            cases.append({"prompt": prompt, "joined": joined})
    return cases


def clip_tokenizer():
    """CLIP's own, from the merges that ship with Easel (`src/text/clip_vocabulary.rs`)."""
    from transformers import CLIPTokenizer
    merges = [tuple(line.split(" ")) for line in pathlib.Path("assets/clip/merges.txt").read_text().splitlines()]
    letters = [chr(code) for code in range(256) if 33 <= code <= 126 or 161 <= code <= 172 or 174 <= code <= 255]
    letters += [chr(256 + index) for index in range(256 - len(letters))]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)


def chunks(rng):
    """Long prompts cut into chunks: A1111 goes back to a near comma."""
    tokenizer, root = clip_tokenizer(), pathlib.Path(os.environ["A1111"]) / "modules"
    opts = types.SimpleNamespace(emphasis="Original", comma_padding_backtrack=20)
    given = {"opts": opts, "prompt_parser": a1111_parser()}
    base = taken(root / "sd_hijack_clip.py", ["PromptChunk", "FrozenCLIPEmbedderWithCustomWordsBase"], given).FrozenCLIPEmbedderWithCustomWordsBase
    base.__init__ = lambda self: None
    a1111 = base()
    a1111.chunk_length, a1111.id_start, a1111.id_end = 75, 49406, 49407
    a1111.comma_token = tokenizer.get_vocab()[",</w>"]
    a1111.tokenize = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]
    none = types.SimpleNamespace(find_embedding_at_position=lambda tokens, position: (None, None))
    a1111.hijack = types.SimpleNamespace(embedding_db=none)
    pool = ["cat", "a (red:1.3) fox", "supercalifragilisticexpialidocious", ",", ", ", ", ", "on", "honorificabilitudinitatibus", " BREAK ", "(deep, (blue) sea)", "x" * 40]
    cases = []
    for _ in range(12):
        prompt = " ".join(rng.choice(pool) for _ in range(rng.randrange(10, 70)))
        chunks = [(chunk.tokens, chunk.multipliers) for chunk in a1111.tokenize_line(prompt)[0]]
        cases.append({"prompt": prompt, "chunks": trimmed(chunks)})
    return cases


def trimmed(chunks):
    """Up to the end marker."""
    rows = [(list(map(int, ids)), list(map(float, weights))) for ids, weights in chunks]
    return [[ids[: ids.index(49407) + 1], weights[: ids.index(49407) + 1]] for ids, weights in rows]


def comfyui_chunks(rng):
    """ComfyUI's chunks and its embeddings; row R of embedding N is the token -(1 + 100 N + R)."""
    import logging, re, traceback
    import safetensors.torch, torch
    names = ["parse_parentheses", "token_weights", "escape_important", "unescape_important", "expand_directory_list", "bundled_embed", "load_embed", "SDTokenizer"]
    given = {"re": re, "os": os, "torch": torch, "logging": logging, "traceback": traceback}
    words = taken(pathlib.Path(os.environ["COMFYUI"]) / "comfy/sd1_clip.py", names, given).SDTokenizer
    words.__init__ = lambda self: None
    comfyui = words()
    pool = ["cat", "a (red:1.3) fox", "supercalifragilisticexpialidocious", ",", ", ", "honorificabilitudinitatibus", "(deep, (blue) sea)", "x" * 40, "\\(sky\\)", "on"]
    named = ["embedding:bad", "embedding:bad,", "(embedding:sub/neg:1.3)", "bad", "embedding:nope", "embedding:nope, on", "x,embedding:bad", "embedding:sub/neg.pt", "embedding:neg.pt",
             "embedding:v2.1", "embedding:v2", "\nembedding:bad", "embedding:bad.safetensors,,", "embedding:sub/bad", "(embedding:bad cat:0.8)", "sub/neg"]
    prompts = ["a cat " + name + " in snow" for name in named] + ["embedding: bad on", "embedding:bad embedding:bad"]
    prompts += [" ".join(rng.choice(pool + named) for _ in range(rng.randrange(8, 60))) for _ in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        values = lambda number, rows: -(1 + 100.0 * number + torch.arange(rows).float())[:, None].expand(rows, 4).contiguous()
        (pathlib.Path(folder) / "sub").mkdir()
        for number, (path, rows) in enumerate(EMBEDDINGS):
            path = pathlib.Path(folder) / path
            if path.suffix == ".safetensors":
                safetensors.torch.save_file({"emb_params": values(number, rows)}, path)
            else:
                torch.save({"string_to_param": {"*": values(number, rows)}}, path)
        comfyui.__dict__.update(pad_token=49407, end_token=49407, start_token=49406, tokens_start=1, tokenizer=clip_tokenizer(), tokenizer_adds_end_token=True,
                                embedding_identifier="embedding:", embedding_directory=[folder], embedding_size=4, embedding_key="clip_l", max_word_length=8,
                                max_length=77, pad_to_max_length=True, min_length=None)
        plain = lambda token: int(token[0]) if isinstance(token, torch.Tensor) else token
        read = lambda prompt: trimmed([[plain(token) for token in ids], weights] for ids, weights in (zip(*chunk) for chunk in comfyui.tokenize_with_weights(prompt)))
        return [{"prompt": prompt, "chunks": read(prompt)} for prompt in prompts]


def has_braces_without_choice(template):
    while match := re.search(r"\{([^{}]*)\}", template):
        if "|" not in match[1] and "$$" not in match[1]:
            return True
        template = template.replace(match[0], "x")
    return False


def templates(rng):
    from dynamicprompts.generators import RandomPromptGenerator
    from dynamicprompts.wildcards import WildcardManager
    prompts = list(TEMPLATES)
    for _ in range(160):
        prompts.append("".join(rng.choice(["{", "}", "|", "a", "b ", "2$$", "0.5::", "__color__", "{a|b}", "|", "c}", "{d|", "__a/*__"]) for _ in range(rng.randrange(2, 9))))
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in LISTS.items():
            path = pathlib.Path(folder) / f"{name}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(lines))
        manager = WildcardManager(folder)
        for prompt in dict.fromkeys(prompts):
            if has_braces_without_choice(prompt):
                continue  # text for Easel
            try:
                drawn = [RandomPromptGenerator(manager, seed=seed).generate(prompt, 1)[0] for seed in (1, 2, 77, 2**33 + 1)]
            except Exception:  # what it cannot read, Easel takes for text
                continue
            cases.append({"template": prompt, "seeds": [1, 2, 77, 2**33 + 1], "prompts": drawn})
    return cases


def main():
    rng = random.Random(5)
    mixed = lambda signs, count: ["".join(rng.choice(signs) for _ in range(rng.randrange(2, 13))) for _ in range(count)]
    data = {
        "steps": STEPS,
        "a1111": a1111(FIXED + mixed(SIGNS, int(os.environ.get("CASES", 300)))),
        "comfyui": comfyui(COMFYUI + mixed(["a ", "(", ")", "(b", ":1.2)", "\\(", "\\)", ":", "c", "0.5"], 60)),
        "compel": compel(COMPEL + mixed(["a", "b ", "(", ")", "+", "-", "1.5", ")1.2", "\"", ", ", ". ", "(c d)", " "], 100)),
        "compel_mixtures": compel_mixtures(MIXTURES),
        "lists": LISTS,
        "templates": templates(rng),
        "chunks": chunks(rng),
        "embeddings": EMBEDDINGS,
        "comfyui_chunks": comfyui_chunks(random.Random(6)),
    }
    path = pathlib.Path(os.environ.get("OUT", "tests/reference/data/prompts")) / "grammar.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = lambda cases: "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]"
    fields = [f"{json.dumps(key)}: {rows(value) if isinstance(value, list) else json.dumps(value)}" for key, value in data.items()]
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n")


if __name__ == "__main__":
    main()
