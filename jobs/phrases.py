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
    "looked_for": {
        "en": " Looked for: {words}.",
        "ru": " Искали: {words}.",
        "de": " Gesucht wurde: {words}.",
        "fr": " Recherché : {words}.",
        "zh": "查找的词：{words}。",
    },
    "came_nearest": {
        "en": " What came nearest, but not near enough, is in {files}.",
        "ru": " Ближе всего, но недостаточно близко: {files}.",
        "de": " Am nächsten, aber nicht nahe genug, kommt {files}.",
        "fr": " Le plus proche, mais pas assez, se trouve dans {files}.",
        "zh": "最接近但仍不够接近的内容在 {files}。",
    },
    "quotation": {"en": "“{quote}”", "ru": "«{quote}»", "de": "„{quote}“", "fr": "« {quote} »", "zh": "“{quote}”"},
    "not_borne_out": {
        "en": "This comes nearest to the question; what the model said of its own is not borne out by the documents.",
        "ru": "Это ближе всего к вопросу; сказанное самой моделью документами не подтверждается.",
        "de": "Das kommt der Frage am nächsten; was das Modell selbst sagte, belegen die Dokumente nicht.",
        "fr": "C'est le plus proche de la question ; ce que le modèle a dit lui-même, les documents ne l'attestent pas.",
        "zh": "这是文档中与问题最接近的内容；模型自己的说法没有依据。",
    },
    "declined": {
        "en": "The model found no answer to this in the documents. This comes nearest: {quote}",
        "ru": "Модель не нашла в документах ответа на этот вопрос. Ближе всего вот что: {quote}",
        "de": "Das Modell fand in den Dokumenten keine Antwort darauf. Am nächsten kommt: {quote}",
        "fr": "Le modèle n'a pas trouvé de réponse dans les documents. Le plus proche est : {quote}",
        "zh": "模型在文档中没有找到答案。最接近的内容是：{quote}",
    },
    "aside": {
        "en": "The model also said this, which the documents do not bear out:",
        "ru": "Модель сказала и это, но документами оно не подтверждается:",
        "de": "Das Modell sagte auch dies, was die Dokumente nicht belegen:",
        "fr": "Le modèle a dit aussi ceci, que les documents n'attestent pas :",
        "zh": "模型还说了以下内容，文档中没有依据：",
    },
    "verified": {
        "en": "found in the document",
        "ru": "найдено в документе",
        "de": "im Dokument gefunden",
        "fr": "trouvé dans le document",
        "zh": "已在文档中找到",
    },
    "unverified": {
        "en": "not verified",
        "ru": "не проверено",
        "de": "nicht geprüft",
        "fr": "non vérifié",
        "zh": "未核实",
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
