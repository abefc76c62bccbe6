"""What the program itself says in an answer, in the language of the question: English, Russian, German, French, Chinese."""

from __future__ import annotations

from corpus.language import Language, language_of

_PHRASES: dict[str, dict[Language, str]] = {
    "not_answered": {
        "en": "The documents do not answer this question.",
        "ru": "Документы не отвечают на этот вопрос.",
        "de": "Die Dokumente beantworten diese Frage nicht.",
        "fr": "Les documents ne répondent pas à cette question.",
        "zh": "文档没有回答这个问题。",
    },
    "came_nearest": {
        "en": " What came nearest, but not near enough, is in {files}.",
        "ru": " Ближе всего, но недостаточно близко: {files}.",
        "de": " Am nächsten, aber nicht nahe genug, kommt {files}.",
        "fr": " Le plus proche, mais pas assez, se trouve dans {files}.",
        "zh": "最接近但仍不够接近的内容在 {files}。",
    },
    "not_borne_out": {
        "en": "What the model said is not borne out by the documents. The nearest they say is this.",
        "ru": "Сказанное моделью документами не подтверждается. Ближе всего в них вот что.",
        "de": "Was das Modell sagte, ist durch die Dokumente nicht belegt. Am nächsten kommt diese Stelle.",
        "fr": "Ce que le modèle a dit n'est pas attesté par les documents. Voici ce qu'ils disent de plus proche.",
        "zh": "模型所说的内容在文档中没有依据。文档中最接近的内容如下。",
    },
    "computed": {
        "en": "(computed: {steps})",
        "ru": "(вычислено: {steps})",
        "de": "(berechnet: {steps})",
        "fr": "(calculé : {steps})",
        "zh": "（计算得出：{steps}）",
    },
}


def phrase(name: str, question: str, **values: str) -> str:
    """One of the phrases in the language of the question."""
    return _PHRASES[name][language_of(question)].format(**values)
